//! Datagrams in: several a system call, several of one sender in each buffer.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn_udp::{EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::socket::{local_port, prepare};
use crate::base::{Ecn, Link};
use crate::io::readiness::watch;

/// Buffers per system call.
const BATCH: usize = 8;

/// The largest UDP payload, or a train of up to 64 datagrams that GRO put together.
const BUFFER: usize = 65_536;

/// At most this many datagrams come out of one [`Receiver::receive`]: two sockets, each with full trains.
pub const MAX_BURST: usize = 2 * BATCH * 64;

/// The receiving half of the socket pair.
#[derive(Debug)]
pub struct Receiver {
    v4: Option<Inbox>,
    v6: Option<Inbox>,
    /// Only the pages that datagrams have touched are resident.
    buffers: Box<[u8]>,
    errors: u64,
}

#[derive(Debug)]
struct Inbox {
    socket: AsyncFd<Arc<UdpSocket>>,
    state: UdpSocketState,
}

impl Receiver {
    pub(super) fn new(v4: Option<Arc<UdpSocket>>, v6: Option<Arc<UdpSocket>>) -> io::Result<Self> {
        let inbox = |socket: Arc<UdpSocket>| -> io::Result<Inbox> {
            let state = prepare(&socket)?;
            // Only readability: the kernel reports room for writing after each datagram that has left.
            Ok(Inbox { socket: watch(socket, Interest::READABLE)?, state })
        };
        Ok(Self {
            v4: v4.map(inbox).transpose()?,
            v6: v6.map(inbox).transpose()?,
            buffers: vec![0; BATCH * BUFFER].into_boxed_slice(),
            errors: 0,
        })
    }

    /// The port of the pair.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn port(&self) -> io::Result<u16> {
        match self.v4.as_ref().or(self.v6.as_ref()) {
            Some(inbox) => local_port(inbox.socket.get_ref()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether the host speaks IPv4 and IPv6, in this order.
    pub fn families(&self) -> (bool, bool) {
        (self.v4.is_some(), self.v6.is_some())
    }

    /// How often the kernel refused to hand datagrams over.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Ready when [`Receiver::receive`] may find datagrams.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ready = Poll::Pending;
        // Both are asked, so that both wake the task.
        for inbox in [&self.v4, &self.v6].into_iter().flatten() {
            if let Poll::Ready(guard) = inbox.socket.poll_read_ready(cx) {
                guard?.retain_ready();
                ready = Poll::Ready(Ok(()));
            }
        }
        ready
    }

    /// Hands what one system call on each socket yields to `each`, datagram by datagram, and returns how many there were, at most [`MAX_BURST`].
    pub fn receive(&mut self, mut each: impl FnMut(Link, &mut [u8])) -> usize {
        let mut count = 0;
        for inbox in [&self.v4, &self.v6].into_iter().flatten() {
            match inbox.receive(&mut self.buffers, &mut each) {
                Ok(received) => count += received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Want of memory, at worst: the next readiness tries again.
                Err(_) => self.errors += 1,
            }
        }
        count
    }
}

impl Inbox {
    fn receive(&self, buffers: &mut [u8], each: &mut impl FnMut(Link, &mut [u8])) -> io::Result<usize> {
        let mut rest = buffers.chunks_exact_mut(BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
        let mut metas = [RecvMeta::default(); BATCH];
        let filled = self.socket.try_io(Interest::READABLE, |socket| {
            self.state.recv(UdpSockRef::from(&**socket), &mut slices, &mut metas)
        })?;
        let mut count = 0;
        for (slice, meta) in slices.iter_mut().zip(&metas).take(filled) {
            let link = link_of(meta);
            // An empty datagram has a stride of 0 and no chunks.
            for datagram in slice[..meta.len.min(BUFFER)].chunks_mut(meta.stride.max(1)) {
                each(link, datagram);
                count += 1;
            }
        }
        Ok(count)
    }
}

fn link_of(meta: &RecvMeta) -> Link {
    // What was sent to a group is not answered from the group's address.
    let local = meta.dst_ip.filter(|ip| !ip.is_multicast() && !ip.is_unspecified());
    let ecn = match meta.ecn {
        None => Ecn::NotEct,
        Some(EcnCodepoint::Ect1) => Ecn::Ect1,
        Some(EcnCodepoint::Ect0) => Ecn::Ect0,
        Some(EcnCodepoint::Ce) => Ecn::Ce,
    };
    Link { ecn, ..Link::new(local, meta.addr) }
}
