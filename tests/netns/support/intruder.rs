//! Somebody else on the underlay, who writes any source address into what is sent.

use std::net::SocketAddr;

use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::capture::Datagram;
use super::namespace::Namespace;

/// `IPPROTO_RAW`: what is sent brings its own IP header.
const RAW: i32 = 255;

/// Raw sockets on the underlay.
#[derive(Debug)]
pub struct Intruder {
    v4: Socket,
    v6: Socket,
}

impl Intruder {
    pub fn new(switch: &Namespace) -> Self {
        let open = |domain| {
            switch.inside(move || Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))).expect("a raw socket")
        };
        Self { v4: open(Domain::IPV4), v6: open(Domain::IPV6) }
    }

    /// Sends `payload` as if it came from `from`.
    pub fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let mut packet = Vec::with_capacity(payload.len() + 48);
        let (socket, builder) = match (from, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                (&self.v4, PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64))
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                (&self.v6, PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), 64))
            }
            (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
                panic!("one packet has one family")
            }
        };
        builder.udp(from.port(), to.port()).write(&mut packet, payload).expect("writing to a vector");
        // The header says where to; a raw IPv6 socket wants no port here. A full queue is no fault of ours.
        let _ = socket.send_to(&packet, &SockAddr::from(SocketAddr::new(to.ip(), 0)));
    }

    /// Sends a captured datagram once more, from where it came.
    pub fn replay(&self, datagram: &Datagram) {
        self.send(datagram.from, datagram.to, &datagram.payload);
    }
}
