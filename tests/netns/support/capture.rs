//! What is on the underlay: every Handfast datagram, once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};

use super::PORT;
use super::namespace::Namespace;

/// Kernel memory for what was captured and not yet read.
const ROOM: usize = 64 << 20;
/// More would not be looked at.
const MOST: usize = 500_000;
/// `PACKET_OUTGOING`: the switch sends it on; it was seen as it came in.
pub const OUTGOING: u8 = 4;

/// One UDP datagram from or to the port of Handfast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Type of service, or traffic class.
    pub class: u8,
    pub payload: Vec<u8>,
}

impl Datagram {
    /// From an IP packet.
    pub fn parse_ip(packet: &[u8]) -> Option<Self> {
        Self::of(&SlicedPacket::from_ip(packet).ok()?)
    }

    fn of(packet: &SlicedPacket<'_>) -> Option<Self> {
        let (source, destination, class): (IpAddr, IpAddr, u8) = match packet.net.as_ref()? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                let class = header.dcp().value() << 2 | header.ecn().value();
                (header.source_addr().into(), header.destination_addr().into(), class)
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into(), header.traffic_class())
            }
            _ => return None,
        };
        let Some(TransportSlice::Udp(udp)) = packet.transport.as_ref() else { return None };
        let (from, to) =
            (SocketAddr::new(source, udp.source_port()), SocketAddr::new(destination, udp.destination_port()));
        (from.port() == PORT || to.port() == PORT).then(|| Self { from, to, class, payload: udp.payload().to_vec() })
    }

    /// The packet type, PROTOCOL §2.
    pub fn kind(&self) -> Option<u8> {
        self.payload.get(1).copied()
    }
}

/// A running capture; ends with this value.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Datagram>>>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins to listen on all ports of a switch.
    pub fn begin(switch: &Namespace) -> Self {
        let (descriptor, bridge) = open(switch, "switch");
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, seeing) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = thread::spawn(move || listen(&descriptor, bridge, &stopped, &seeing));
        Self { stop, seen, thread: Some(thread) }
    }

    /// What was seen so far.
    pub fn datagrams(&self) -> Vec<Datagram> {
        // What has just been sent is under way to us.
        thread::sleep(Duration::from_millis(200));
        self.seen.lock().expect("no other panic").clone()
    }

    /// How many datagrams of which type.
    pub fn kinds(&self) -> BTreeMap<Option<u8>, usize> {
        let mut kinds = BTreeMap::new();
        for datagram in self.datagrams() {
            *kinds.entry(datagram.kind()).or_insert(0) += 1;
        }
        kinds
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet socket that hears all interfaces of a namespace, and the number of one of them.
pub fn open(namespace: &Namespace, interface: &str) -> (OwnedFd, usize) {
    let (descriptor, number) = namespace.inside(|| {
        let descriptor = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        );
        (descriptor.expect("a packet socket"), if_nametoindex(interface).expect("an interface"))
    });
    setsockopt(&descriptor, sockopt::RcvBufForce, &ROOM).expect("a large buffer");
    (descriptor, number as usize)
}

fn listen(descriptor: &OwnedFd, bridge: usize, stop: &AtomicBool, seen: &Mutex<Vec<Datagram>>) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let mut descriptors = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut descriptors, PollTimeout::from(20_u8));
        while let Ok((length, Some(source))) = recvfrom::<LinkAddr>(descriptor.as_raw_fd(), &mut buffer) {
            // What the switch itself receives or sends was or will be seen at a port too.
            if source.pkttype() == OUTGOING || source.ifindex() == bridge {
                continue;
            }
            let parsed = SlicedPacket::from_ethernet(&buffer[..length]).ok();
            if let Some(datagram) = parsed.as_ref().and_then(Datagram::of) {
                let mut seen = seen.lock().expect("no other panic");
                if seen.len() < MOST {
                    seen.push(datagram);
                }
            }
        }
    }
}
