//! Datagrams in: several a system call, several of one sender in each buffer.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

use super::socket::prepare;
use crate::base::{Ecn, Link, TrafficClass};

/// Buffers per system call.
const BATCH: usize = 8;

/// The largest UDP payload, or a train of up to 64 datagrams that GRO put together.
const BUFFER: usize = 65_536;

/// What all datagrams of one system call have in common.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When the first of them came to this host, by the wall clock since 1970.
    pub first: Option<Duration>,
    /// How long they are together.
    pub bytes: usize,
}

/// The receiving half of one socket.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<UdpSocket>,
    state: UdpSocketState,
    /// Only the pages that datagrams have touched are resident.
    buffers: Box<[u8]>,
    errors: u64,
}

impl Receiver {
    /// Receives on `socket`.
    ///
    /// # Errors
    /// When the kernel refuses an option.
    pub fn new(socket: Arc<UdpSocket>) -> io::Result<Self> {
        Ok(Self { state: prepare(&socket)?, socket, buffers: vec![0; BATCH * BUFFER].into_boxed_slice(), errors: 0 })
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// How often the kernel refused to hand datagrams over.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// What one system call yields, datagram by datagram, in the order of arrival; nothing when there is none at present.
    pub fn receive(&mut self) -> (Arrival, impl Iterator<Item = (Link, &mut [u8])>) {
        let mut metas = [RecvMeta::default(); BATCH];
        let filled = match self.fill(&mut metas) {
            Ok(filled) => filled,
            Err(error) => {
                // Want of memory, at worst: the next readiness tries again.
                self.errors += u64::from(error.kind() != io::ErrorKind::WouldBlock);
                0
            }
        };
        let of_all = metas.iter().take(filled);
        let first = of_all.clone().find_map(|meta| meta.timestamp);
        let arrival = Arrival { first, bytes: of_all.map(|meta| meta.len).sum() };
        let datagrams = self.buffers.chunks_exact_mut(BUFFER).zip(metas).take(filled).flat_map(|(buffer, meta)| {
            let link = link_of(&meta);
            // An empty datagram has a stride of 0 and no chunks.
            buffer[..meta.len.min(BUFFER)].chunks_mut(meta.stride.max(1)).map(move |datagram| (link, datagram))
        });
        (arrival, datagrams)
    }

    fn fill(&mut self, metas: &mut [RecvMeta; BATCH]) -> io::Result<usize> {
        let mut rest = self.buffers.chunks_exact_mut(BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
        self.state.recv(UdpSockRef::from(&*self.socket), &mut slices, metas)
    }
}

fn link_of(meta: &RecvMeta) -> Link {
    // What was sent to a group is not answered from the group's address.
    let local = meta.dst_ip.filter(|ip| !ip.is_multicast() && !ip.is_unspecified());
    let ecn = meta.ecn.map_or(Ecn::NotEct, |mark| Ecn::from_bits(mark as u8));
    Link::new(local, meta.addr).bearing(TrafficClass::new(0, ecn))
}
