//! Binding the sockets, and every option that is set on them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Receiver, Sender};

/// Receive buffer of each socket: about 3 ms of datagrams at 5 Gbit/s, with the kernel's overhead.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// Send buffer of each socket. What waits in it adds to everybody's delay, so it is no larger than keeps a fast link busy.
pub const SEND_BUFFER: usize = 1 << 20;

/// How often a pair of free ports is looked for when any will do.
const ATTEMPTS: usize = 8;

/// Opens both sockets on `port` of all addresses, or on one free port if it is 0. All datagrams carry `mark`, which needs CAP_NET_ADMIN.
///
/// A host that lacks one of the two IP versions gets a single socket.
///
/// # Errors
/// See [`BindError`].
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind(port: u16, mark: Option<u32>) -> Result<(Receiver, Sender), BindError> {
    let mut attempt = 1;
    let (v4, v6) = loop {
        match bind_pair(port, mark) {
            Err(BindError::PortTaken { .. }) if port == 0 && attempt < ATTEMPTS => attempt += 1,
            result => break result?,
        }
    };
    let error = |error| BindError::Io { what: "prepare the UDP sockets", error };
    let sender = Sender::new(v4.clone(), v6.clone()).map_err(error)?;
    let receiver = Receiver::new(v4, v6).map_err(error)?;
    Ok((receiver, sender))
}

type Shared = Option<Arc<UdpSocket>>;

fn bind_pair(port: u16, mark: Option<u32>) -> Result<(Shared, Shared), BindError> {
    let v4 = bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), mark)?;
    let port = match &v4 {
        Some(socket) => local_port(socket).map_err(|error| BindError::Io { what: "read the port", error })?,
        None => port,
    };
    let v6 = bind_one(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), mark)?;
    if v4.is_none() && v6.is_none() {
        return Err(BindError::NoProtocol);
    }
    Ok((v4.map(Arc::new), v6.map(Arc::new)))
}

/// `None` if the host does not speak this version of IP.
fn bind_one(address: SocketAddr, mark: Option<u32>) -> Result<Option<UdpSocket>, BindError> {
    let failed = |what| move |error| BindError::Io { what, error };
    let socket = match Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)) {
        Ok(socket) => socket,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed("open a UDP socket")(error)),
    };
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(failed("keep IPv4 off the IPv6 socket"))?;
    }
    if let Some(mark) = mark {
        socket.set_mark(mark).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM) => BindError::NotPermitted,
            _ => BindError::Io { what: "mark datagrams", error },
        })?;
    }
    size_buffers(&socket);
    match socket.bind(&address.into()) {
        Ok(()) => Ok(Some(socket.into())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => BindError::PortTaken { port: address.port() },
            Some(Errno::EACCES) => BindError::PortReserved { port: address.port() },
            _ => failed("bind a UDP socket")(error),
        }),
    }
}

/// Beyond the host's limits where the right to do so exists, else as far as they go.
fn size_buffers(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        // A smaller buffer costs throughput, not correctness.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
    }
}

/// Turns on GSO, GRO, ECN and packet information, and forbids fragmentation on the way: a datagram of 1228 bytes fits every IPv6 path, and what may
/// be larger is found out by asking the path.
pub(super) fn prepare(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    // Nobody reads the timestamps, and taking them costs each packet of the host.
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
    Ok(state)
}

pub(super) fn local_port(socket: &UdpSocket) -> io::Result<u16> {
    Ok(socket.local_addr()?.port())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::EADDRNOTAVAIL)
    )
}

/// Why there are no sockets.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("UDP port {port} is taken by another program")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// A port below 1024.
    #[error("not permitted: UDP port {port} is below 1024 and needs CAP_NET_BIND_SERVICE")]
    PortReserved {
        /// The port.
        port: u16,
    },
    /// The process lacks the right to mark its datagrams.
    #[error("not permitted: marking datagrams needs CAP_NET_ADMIN")]
    NotPermitted,
    /// Neither IPv4 nor IPv6.
    #[error("this host speaks neither IPv4 nor IPv6")]
    NoProtocol,
    /// Anything else.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::netlink::tests::in_namespace;

    #[tokio::test]
    async fn both_sockets_share_one_port_and_a_second_pair_cannot_have_it() {
        let (receiver, _sender) = bind(0, None).unwrap();
        let port = receiver.port().unwrap();
        assert_ne!(port, 0);
        assert!(matches!(bind(port, None), Err(BindError::PortTaken { port: taken }) if taken == port));
    }

    #[test]
    fn datagrams_are_marked_and_buffers_have_their_stated_size() {
        in_namespace(|| async {
            let socket = bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Some(0x4866)).unwrap().unwrap();
            let socket = Socket::from(socket);
            assert_eq!(socket.mark().unwrap(), 0x4866);
            // The kernel doubles what it is asked for, for its own overhead.
            assert_eq!(socket.recv_buffer_size().unwrap(), 2 * RECEIVE_BUFFER);
            assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
        });
    }
}
