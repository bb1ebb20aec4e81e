//! Extra sockets beside the common port, for a while: each has a port of its own, so that a NAT which gives each destination another port has as many towards one.
//!
//! They belong to one thread and are one thing to wait for, however many there are: an `epoll` of their own, which the runtime watches.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::receive::{Buffers, Inlet};
use super::socket::{BindError, Pair, open, size_buffers};
use super::{Arrival, Sender};
use crate::base::{Link, TrafficClass};
use crate::io::poller::Poller;
use crate::io::readiness::watch;

/// With so few, each carries more than a ping now and then, and gets buffers as large as those of the common sockets.
const FEW: usize = 64;

/// See the module. A socket goes by a number, never 0, which stands in the [`Link`] of what it sends and receives.
#[derive(Debug)]
pub struct Outlets {
    mark: Option<u32>,
    class: TrafficClass,
    open: BTreeMap<u16, Inlet>,
    watched: AsyncFd<Arc<Poller>>,
    /// Those that had something to read when it was looked last.
    ready: Vec<u16>,
    buffers: Buffers,
}

impl Outlets {
    /// None yet. Their datagrams will carry `mark` and, if their links ask for no class, be of this one.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(mark: Option<u32>, class: TrafficClass) -> io::Result<Self> {
        let watched = watch(Arc::new(Poller::new()?), Interest::READABLE)?;
        Ok(Self { mark, class, open: BTreeMap::new(), watched, ready: Vec::new(), buffers: Buffers::default() })
    }

    /// Opens sockets for IPv4 with these numbers, and has `sender` send on them. Stops at the first that cannot be opened.
    ///
    /// # Errors
    /// Why it could not: the host has no IPv4, or the process no descriptors left.
    pub fn open(&mut self, numbers: Range<u16>, sender: &mut Sender) -> Result<(), BindError> {
        for number in numbers {
            let failed = |error| BindError::Io { what: "open an extra UDP socket", error };
            let socket = open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), self.mark, false)?;
            let socket = Arc::new(socket.ok_or(BindError::NoProtocol)?.into());
            Pair { v4: Some(Arc::clone(&socket)), v6: None }.set_class(self.class).map_err(failed)?;
            self.watched.get_ref().watch(&*socket, number.into()).map_err(failed)?;
            sender.add_extra(number, Arc::clone(&socket)).map_err(failed)?;
            self.open.insert(number, Inlet::new(socket).map_err(failed)?);
        }
        Ok(())
    }

    /// Closes those with these numbers. What waits to be sent on them is dropped.
    pub fn close(&mut self, numbers: Range<u16>, sender: &mut Sender) {
        sender.remove_extra(numbers.clone());
        self.open.retain(|number, _| !numbers.contains(number));
        if self.open.len() <= FEW {
            self.open.values().for_each(|inlet| size_buffers(&inlet.socket().into()));
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Ready when [`Self::receive`] will yield something.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Poll::Ready(Ok(mut guard)) = self.watched.poll_read_ready(cx) else { return Poll::Pending };
            self.ready.clear();
            let ready = &mut self.ready;
            let looked = guard.get_inner().poll(false, |token| ready.extend(u16::try_from(token)));
            if looked.is_ok() && !ready.is_empty() {
                return Poll::Ready(());
            }
            guard.clear_ready();
        }
    }

    /// Hands over what has arrived: of each socket that was ready, as much as one system call yields.
    pub fn receive(&mut self, mut each: impl FnMut(Link, &mut [u8])) {
        for number in self.ready.drain(..) {
            let Some(inlet) = self.open.get_mut(&number) else { continue };
            let (Arrival { .. }, datagrams) = inlet.receive(&mut self.buffers);
            datagrams.for_each(|(link, datagram)| each(link.through(number), datagram));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::future::poll_fn;
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::base::TxSink as _;
    use crate::io::udp::bind;

    fn send(sender: &mut Sender, link: Link, bytes: &[u8]) {
        sender.transmit(link, bytes.len(), |slot| slot.copy_from_slice(bytes));
    }

    fn far() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn each_has_a_port_of_its_own_and_answers_come_by_the_number_of_the_socket() {
        let mut sender = bind(0, None, 1).unwrap().remove(0).sender().unwrap();
        let mut outlets = Outlets::new(None, TrafficClass::default()).unwrap();
        let (far, address) = far();
        outlets.open(10..42, &mut sender).unwrap();
        assert_eq!(outlets.len(), 32);
        for number in 10..42_u16 {
            send(&mut sender, Link::to(address).through(number), &number.to_be_bytes());
        }
        sender.flush();
        let mut sources = BTreeSet::new();
        for _ in 10..42 {
            let mut number = [0; 2];
            let (_, source) = far.recv_from(&mut number).unwrap();
            assert!(sources.insert(source), "a port of its own");
            far.send_to(&number, source).unwrap();
        }
        let mut received = BTreeSet::new();
        while received.len() < 32 {
            poll_fn(|cx| outlets.poll_ready(cx)).await;
            outlets.receive(|link, datagram| {
                assert_eq!((link.remote, &link.socket.to_be_bytes()[..]), (address, &*datagram));
                received.insert(link.socket);
            });
        }
    }

    #[tokio::test]
    async fn what_is_closed_neither_sends_nor_receives_and_the_others_do() {
        let mut sender = bind(0, None, 1).unwrap().remove(0).sender().unwrap();
        let mut outlets = Outlets::new(None, TrafficClass::default()).unwrap();
        let (far, address) = far();
        outlets.open(1..257, &mut sender).unwrap();
        // What waits goes with its socket.
        send(&mut sender, Link::to(address).through(1), b"too late");
        outlets.close(1..7, &mut sender);
        outlets.close(8..257, &mut sender);
        assert_eq!((outlets.len(), outlets.is_empty()), (1, false));
        for number in [1, 7, 8, 300] {
            send(&mut sender, Link::to(address).through(number), &number.to_be_bytes());
        }
        sender.flush();
        let mut number = [0; 2];
        let (_, source) = far.recv_from(&mut number).unwrap();
        assert_eq!(u16::from_be_bytes(number), 7);
        assert_eq!(sender.counters().no_socket, 4);
        far.send_to(b"answer", source).unwrap();
        poll_fn(|cx| outlets.poll_ready(cx)).await;
        let mut received = Vec::new();
        outlets.receive(|link, datagram| received.push((link.socket, datagram.to_vec())));
        assert_eq!(received, [(7, b"answer".to_vec())]);
        outlets.close(1..u16::MAX, &mut sender);
        assert!(outlets.is_empty());
        let silent = tokio::time::timeout(Duration::from_millis(20), poll_fn(|cx| outlets.poll_ready(cx))).await;
        assert!(silent.is_err());
    }
}
