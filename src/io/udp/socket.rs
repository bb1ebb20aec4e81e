//! Binding the sockets, and every option that is set on them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Receiver, Sender};
use crate::base::TrafficClass;

/// Receive buffer of each socket: about 3 ms of datagrams at 5 Gbit/s, with the kernel's overhead.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// Send buffer of each socket. What waits in it adds to everybody's delay, so it is no larger than keeps a fast link busy.
pub const SEND_BUFFER: usize = 1 << 20;

/// How often a pair of free ports is looked for when any will do.
const ATTEMPTS: usize = 8;

/// One socket for each version of IP that the host speaks, on one port.
#[derive(Clone, Debug)]
pub struct Pair {
    /// For IPv4.
    pub v4: Option<Arc<UdpSocket>>,
    /// For IPv6.
    pub v6: Option<Arc<UdpSocket>>,
}

impl Pair {
    /// The port of both.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn port(&self) -> io::Result<u16> {
        match self.sockets().next() {
            Some(socket) => Ok(socket.local_addr()?.port()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What sends on them.
    ///
    /// # Errors
    /// When the kernel refuses an option.
    pub fn sender(&self) -> io::Result<Sender> {
        Sender::new(self.v4.clone(), self.v6.clone())
    }

    /// What receives on each of them.
    ///
    /// # Errors
    /// When the kernel refuses an option.
    pub fn receivers(&self) -> io::Result<Vec<Receiver>> {
        self.sockets().map(|socket| Receiver::new(Arc::clone(socket))).collect()
    }

    /// Every datagram whose link asks for no class is of this one.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn set_class(&self, class: TrafficClass) -> io::Result<()> {
        if let Some(socket) = &self.v4 {
            setsockopt(socket, sockopt::Ipv4Tos, &class.byte().into())?;
        }
        if let Some(socket) = &self.v6 {
            setsockopt(socket, sockopt::Ipv6TClass, &class.byte().into())?;
        }
        Ok(())
    }

    fn sockets(&self) -> impl Iterator<Item = &Arc<UdpSocket>> {
        [&self.v4, &self.v6].into_iter().flatten()
    }
}

/// Opens `count` pairs of sockets on `port` of all addresses, or on one free port if it is 0. All datagrams carry `mark`, which needs CAP_NET_ADMIN.
///
/// What one peer sends always comes to the same pair: the kernel chooses by both addresses and ports.
///
/// # Errors
/// See [`BindError`].
pub fn bind(port: u16, mark: Option<u32>, count: usize) -> Result<Vec<Pair>, BindError> {
    let mut attempt = 1;
    let first = loop {
        match bind_pair(port, mark, false) {
            Err(BindError::PortTaken { .. }) if port == 0 && attempt < ATTEMPTS => attempt += 1,
            result => break result?,
        }
    };
    if count <= 1 {
        return Ok(vec![first]);
    }
    // Sockets that share a port would share it with another daemon, too: so the port was taken alone first.
    let port = first.port().map_err(|error| BindError::Io { what: "read the port", error })?;
    drop(first);
    (0..count).map(|_| bind_pair(port, mark, true)).collect()
}

fn bind_pair(port: u16, mark: Option<u32>, shared: bool) -> Result<Pair, BindError> {
    let v4 = bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), mark, shared)?;
    let port = match &v4 {
        Some(socket) => socket.local_addr().map_err(|error| BindError::Io { what: "read the port", error })?.port(),
        None => port,
    };
    let v6 = bind_one(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), mark, shared)?;
    if v4.is_none() && v6.is_none() {
        return Err(BindError::NoProtocol);
    }
    Ok(Pair { v4: v4.map(Arc::new), v6: v6.map(Arc::new) })
}

/// `None` if the host does not speak this version of IP.
fn bind_one(address: SocketAddr, mark: Option<u32>, shared: bool) -> Result<Option<UdpSocket>, BindError> {
    let socket = open(address, mark, shared)?;
    Ok(socket.map(|socket| {
        size_buffers(&SockRef::from(&socket));
        socket.into()
    }))
}

/// The same with buffers as the kernel has them.
pub(super) fn open(address: SocketAddr, mark: Option<u32>, shared: bool) -> Result<Option<Socket>, BindError> {
    let failed = |what| move |error| BindError::Io { what, error };
    let socket = match Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)) {
        Ok(socket) => socket,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed("open a UDP socket")(error)),
    };
    socket.set_nonblocking(true).map_err(failed("keep a UDP socket from blocking"))?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(failed("keep IPv4 off the IPv6 socket"))?;
    }
    if shared {
        socket.set_reuse_port(true).map_err(failed("share a port between threads"))?;
    }
    if let Some(mark) = mark {
        socket.set_mark(mark).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM) => BindError::NotPermitted,
            _ => BindError::Io { what: "mark datagrams", error },
        })?;
    }
    match socket.bind(&address.into()) {
        Ok(()) => Ok(Some(socket)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => BindError::PortTaken { port: address.port() },
            Some(Errno::EACCES) => BindError::PortReserved { port: address.port() },
            _ => failed("bind a UDP socket")(error),
        }),
    }
}

/// Beyond the host's limits where the right to do so exists, else as far as they go.
pub(super) fn size_buffers(socket: &SockRef<'_>) {
    if setsockopt(&**socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        // A smaller buffer costs throughput, not correctness.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    if setsockopt(&**socket, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
    }
}

/// Turns on GRO, ECN and packet information, finds out about GSO, and forbids fragmentation on the way: a datagram of 1228 bytes fits every IPv6 path, and what may
/// be larger is found out by asking the path.
pub(super) fn prepare(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    UdpSocketState::new(UdpSockRef::from(socket))
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

    #[test]
    fn all_sockets_share_one_port_and_another_daemon_cannot_have_it() {
        for count in [1, 3] {
            let pairs = bind(0, None, count).unwrap();
            let port = pairs[0].port().unwrap();
            assert_ne!(port, 0);
            assert!(pairs.len() == count && pairs.iter().all(|pair| pair.port().unwrap() == port));
            for count in [1, 2] {
                assert!(matches!(bind(port, None, count), Err(BindError::PortTaken { port: taken }) if taken == port));
            }
        }
    }

    #[test]
    fn datagrams_are_marked_and_buffers_have_their_stated_size() {
        in_namespace(|| async {
            let socket = bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Some(0x4866), false).unwrap().unwrap();
            let socket = Socket::from(socket);
            assert_eq!(socket.mark().unwrap(), 0x4866);
            // The kernel doubles what it is asked for, for its own overhead.
            assert_eq!(socket.recv_buffer_size().unwrap(), 2 * RECEIVE_BUFFER);
            assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
        });
    }
}
