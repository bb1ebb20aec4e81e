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
    inlet: Inlet,
    buffers: Buffers,
}

/// A socket that is received on, without room for what comes.
#[derive(Debug)]
pub(super) struct Inlet {
    socket: Arc<UdpSocket>,
    state: UdpSocketState,
    errors: u64,
}

/// Room for what one system call yields. Only the pages that datagrams have touched are resident.
#[derive(Debug)]
pub(super) struct Buffers(Box<[u8]>);

impl Default for Buffers {
    fn default() -> Self {
        Self(vec![0; BATCH * BUFFER].into_boxed_slice())
    }
}

impl Receiver {
    /// Receives on `socket`.
    ///
    /// # Errors
    /// When the kernel refuses an option.
    pub fn new(socket: Arc<UdpSocket>) -> io::Result<Self> {
        Ok(Self { inlet: Inlet::new(socket)?, buffers: Buffers::default() })
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &UdpSocket {
        self.inlet.socket()
    }

    /// How often the kernel refused to hand datagrams over.
    pub fn errors(&self) -> u64 {
        self.inlet.errors
    }

    /// What one system call yields, datagram by datagram, in the order of arrival; nothing when there is none at present.
    pub fn receive(&mut self) -> (Arrival, impl Iterator<Item = (Link, &mut [u8])>) {
        self.inlet.receive(&mut self.buffers)
    }
}

impl Inlet {
    /// As [`Receiver::new`].
    pub(super) fn new(socket: Arc<UdpSocket>) -> io::Result<Self> {
        Ok(Self { state: prepare(&socket)?, socket, errors: 0 })
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// As [`Receiver::receive`].
    pub(super) fn receive<'buffers>(
        &mut self,
        buffers: &'buffers mut Buffers,
    ) -> (Arrival, impl Iterator<Item = (Link, &'buffers mut [u8])> + use<'buffers>) {
        let mut metas = [RecvMeta::default(); BATCH];
        let filled = match self.fill(buffers, &mut metas) {
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
        let datagrams = buffers.0.chunks_exact_mut(BUFFER).zip(metas).take(filled).flat_map(|(buffer, meta)| {
            let link = link_of(&meta);
            // An empty datagram has a stride of 0 and no chunks.
            buffer[..meta.len.min(BUFFER)].chunks_mut(meta.stride.max(1)).map(move |datagram| (link, datagram))
        });
        (arrival, datagrams)
    }

    fn fill(&self, buffers: &mut Buffers, metas: &mut [RecvMeta; BATCH]) -> io::Result<usize> {
        let mut rest = buffers.0.chunks_exact_mut(BUFFER);
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
