//! Bytes that a test recognises again, and how they get from one host to another.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::namespace::Namespace;
use super::seconds;

/// Where the receiver listens.
pub const PORT: u16 = 7000;

/// No transfer pauses for so long, whatever happens on its way.
const PATIENCE: Duration = seconds(30);
/// Little, so that a transfer is not over when half of it has been read.
const RECEIVE_BUFFER: usize = 256 << 10;
/// Room for datagrams that nobody has read yet. The kernel counts whole pages for each of their fragments.
const WAITING: usize = 8 << 20;

/// Bytes without a period that a segment could hide in.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Sends `bytes` over TCP and gives what arrived.
#[track_caller]
pub fn transfer(from: &Namespace, to: &Namespace, address: IpAddr, bytes: &[u8]) -> Vec<u8> {
    let listener = to.listener((address, PORT));
    carry(from, &listener, bytes, || ())
}

/// Sends `bytes` over TCP and gives what arrived; does something when half of it is there and the rest is under way.
#[track_caller]
pub fn transfer_and(
    from: &Namespace,
    to: &Namespace,
    address: IpAddr,
    bytes: &[u8],
    halfway: impl FnOnce(),
) -> Vec<u8> {
    let listener = to.listener((address, PORT));
    socket2::SockRef::from(&listener).set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    carry(from, &listener, bytes, halfway)
}

#[track_caller]
fn carry(from: &Namespace, listener: &TcpListener, bytes: &[u8], halfway: impl FnOnce()) -> Vec<u8> {
    let address = listener.local_addr().unwrap();
    let mut sender = from.inside(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap();
    sender.set_write_timeout(Some(PATIENCE)).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || sender.write_all(bytes).unwrap());
        let mut received = vec![0; bytes.len() / 2];
        receiver.read_exact(&mut received).unwrap();
        halfway();
        receiver.read_to_end(&mut received).unwrap();
        received
    })
}

/// Sends these datagrams at once, from `own` (port 0: any), and gives what arrived, sorted: what goes in parts may be overtaken.
#[track_caller]
pub fn exchange(
    from: &Namespace,
    own: impl Into<SocketAddr>,
    to: &Namespace,
    address: IpAddr,
    sent: &[&[u8]],
) -> Vec<Vec<u8>> {
    let receiver = to.udp(SocketAddr::new(address, PORT));
    setsockopt(&receiver, sockopt::RcvBufForce, &WAITING).unwrap();
    receiver.set_read_timeout(Some(seconds(10))).unwrap();
    let sender = from.udp(own);
    for datagram in sent {
        sender.send_to(datagram, (address, PORT)).unwrap();
    }
    let mut buffer = vec![0; 65_536];
    let mut received: Vec<Vec<u8>> = Vec::new();
    for number in 0..sent.len() {
        // A machine that was frozen and goes on interrupts what has a time limit.
        let result = loop {
            match receiver.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                result => break result,
            }
        };
        let len = result.unwrap_or_else(|error| panic!("{number} of {}: {error}", sent.len()));
        received.push(buffer[..len].to_vec());
    }
    received.sort_unstable();
    received
}
