//! Datagrams out: gathered per destination, one system call a batch.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::socket::prepare;
use crate::base::{Link, TrafficClass, TxSink};

/// Destinations, and codepoints towards one, that are gathered at a time.
const SLOTS: usize = 8;

/// The largest UDP payload over IPv4, hence the largest batch.
const BATCH_BYTES: usize = 65_507;

/// Refusals of datagrams for their size that are kept until they are asked for.
const MAX_REFUSALS: usize = 16;

/// The sending half of the socket pair: datagrams wait in a batch until [`Sender::flush`], or until the batch can take no more.
///
/// When the kernel's buffer is full, batches stay where they are ([`Sender::is_blocked`]), and new datagrams that find no room are dropped. So
/// at most `SLOTS` batches are held.
#[derive(Debug)]
pub struct Sender {
    v4: Option<Outbox>,
    v6: Option<Outbox>,
    /// Extra sockets, by the number that links name them by.
    extra: BTreeMap<u16, Outbox>,
    slots: [Batch; SLOTS],
    /// The slot that makes room next when none is free.
    turn: usize,
    counters: SendCounters,
}

/// What became of datagrams, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Handed to the kernel.
    pub sent: u64,
    /// System calls that handed them over.
    pub batches: u64,
    /// Of those sent: with a source that the kernel chose, because the one that was asked for is no longer an address of this host.
    pub moved: u64,
    /// Dropped: the socket's buffer and the batches were full.
    pub full: u64,
    /// Dropped: no route, or the network or host is unreachable.
    pub unreachable: u64,
    /// Dropped: refused by the other host.
    pub refused: u64,
    /// Dropped: larger than the path or the interface takes.
    pub too_big: u64,
    /// Dropped: by a firewall or policy of this host.
    pub denied: u64,
    /// Dropped: the kernel had no memory or its queue was full.
    pub no_buffers: u64,
    /// Dropped: this host does not speak that version of IP.
    pub no_socket: u64,
    /// Dropped: another error.
    pub other: u64,
}

impl Sender {
    /// Sends on these sockets, of which one may be missing.
    ///
    /// # Errors
    /// When the kernel refuses an option.
    pub fn new(v4: Option<Arc<UdpSocket>>, v6: Option<Arc<UdpSocket>>) -> io::Result<Self> {
        Ok(Self {
            v4: v4.map(Outbox::new).transpose()?,
            v6: v6.map(Outbox::new).transpose()?,
            extra: BTreeMap::new(),
            slots: std::array::from_fn(|_| Batch::new()),
            turn: 0,
            counters: SendCounters::default(),
        })
    }

    /// Sends on one more socket what names it.
    ///
    /// # Errors
    /// When the kernel refuses an option.
    pub(super) fn add_extra(&mut self, number: u16, socket: Arc<UdpSocket>) -> io::Result<()> {
        self.extra.insert(number, Outbox::new(socket)?);
        Ok(())
    }

    /// Sends no more on these, and drops what names them.
    pub(super) fn remove_extra(&mut self, numbers: Range<u16>) {
        self.extra.retain(|number, _| !numbers.contains(number));
        for slot in 0..SLOTS {
            if numbers.contains(&self.slots[slot].link.socket) {
                self.flush_slot(slot);
            }
        }
    }

    /// What was sent and dropped so far.
    pub fn counters(&self) -> SendCounters {
        self.counters
    }

    /// Takes the destination and length of a datagram that the kernel refused because it is too large for the interface; of many, not all are told.
    pub fn take_too_big(&mut self) -> Option<(SocketAddr, usize)> {
        self.outboxes_mut().find_map(|outbox| outbox.too_big.pop())
    }

    /// Hands all batches to the kernel.
    pub fn flush(&mut self) {
        self.outboxes_mut().for_each(|outbox| outbox.blocked = false);
        for slot in 0..SLOTS {
            self.flush_slot(slot);
        }
    }

    /// Whether a batch waits for room in the kernel: whoever feeds the sink should pause.
    pub fn is_blocked(&self) -> bool {
        self.outboxes().any(|outbox| outbox.blocked)
    }

    /// Whether [`Sender::flush`] has to wait for room in `socket`, which is one of its own.
    pub fn is_blocked_on(&self, socket: &UdpSocket) -> bool {
        self.outboxes().any(|outbox| outbox.blocked && std::ptr::eq(&*outbox.socket, socket))
    }

    fn outboxes(&self) -> impl Iterator<Item = &Outbox> {
        [&self.v4, &self.v6].into_iter().flatten().chain(self.extra.values())
    }

    fn outboxes_mut(&mut self) -> impl Iterator<Item = &mut Outbox> {
        [&mut self.v4, &mut self.v6].into_iter().flatten().chain(self.extra.values_mut())
    }

    /// What sends to `link`.
    fn outbox(&self, link: Link) -> Option<&Outbox> {
        match (link.socket, link.remote) {
            (0, SocketAddr::V4(_)) => self.v4.as_ref(),
            (0, SocketAddr::V6(_)) => self.v6.as_ref(),
            (number, _) => self.extra.get(&number),
        }
    }

    /// The slot whose batch takes `len` bytes more to `link`; everything of one codepoint to one destination goes through one slot, so it stays in order.
    fn slot_for(&mut self, link: Link, len: usize) -> Option<usize> {
        let lane = |link: Link| (link.remote, link.socket, link.class.dscp());
        let same = self.slots.iter().position(|batch| !batch.is_empty() && lane(batch.link) == lane(link));
        if let Some(slot) = same {
            if !self.slots[slot].takes(link, len, self.segments_to(link)) {
                self.flush_slot(slot);
            }
            let takes = self.slots[slot].is_empty() || self.slots[slot].takes(link, len, self.segments_to(link));
            return takes.then_some(slot);
        }
        if let Some(slot) = self.slots.iter().position(Batch::is_empty) {
            return Some(slot);
        }
        let slot = self.turn;
        self.turn = (slot + 1) % SLOTS;
        self.flush_slot(slot);
        self.slots[slot].is_empty().then_some(slot)
    }

    /// How many datagrams the kernel cuts out of one batch.
    fn segments_to(&self, link: Link) -> usize {
        self.outbox(link).map_or(1, |outbox| outbox.segments)
    }

    fn flush_slot(&mut self, slot: usize) {
        let batch = &mut self.slots[slot];
        if batch.is_empty() {
            return;
        }
        let outbox = match (batch.link.socket, batch.link.remote) {
            (0, SocketAddr::V4(_)) => self.v4.as_mut(),
            (0, SocketAddr::V6(_)) => self.v6.as_mut(),
            (number, _) => self.extra.get_mut(&number),
        };
        match outbox {
            None => self.counters.no_socket += batch.count as u64,
            Some(outbox) => {
                if outbox.send(batch, &mut self.counters).is_blocked() {
                    return;
                }
            }
        }
        batch.clear();
    }
}

impl Sender {
    /// As [`TxSink::transmit`], but `fill` may find that there is nothing to send after all, and then says false.
    pub fn try_transmit(&mut self, link: Link, len: usize, fill: impl FnOnce(&mut [u8]) -> bool) {
        if len > BATCH_BYTES {
            self.counters.too_big += 1;
            return;
        }
        let Some(slot) = self.slot_for(link, len) else {
            self.counters.full += 1;
            return;
        };
        if self.slots[slot].push(link, len, fill) && self.slots[slot].is_complete(self.segments_to(link)) {
            self.flush_slot(slot);
        }
    }
}

impl TxSink for Sender {
    fn transmit(&mut self, link: Link, len: usize, fill: impl FnOnce(&mut [u8])) {
        self.try_transmit(link, len, |datagram| {
            fill(datagram);
            true
        });
    }
}

/// Datagrams of one length, class and hop limit to one destination; the last may be shorter.
#[derive(Debug)]
struct Batch {
    link: Link,
    /// Length of each datagram but the last.
    segment: usize,
    count: usize,
    len: usize,
    buffer: Box<[u8]>,
}

impl Batch {
    fn new() -> Self {
        let nowhere = Link::to(SocketAddr::from(([0; 4], 0)));
        Self { link: nowhere, segment: 0, count: 0, len: 0, buffer: vec![0; BATCH_BYTES].into_boxed_slice() }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn clear(&mut self) {
        self.count = 0;
        self.len = 0;
    }

    /// Whether `len` bytes to `link` may follow what is there.
    fn takes(&self, link: Link, len: usize, segments: usize) -> bool {
        self.link == link && len <= self.segment && self.len + len <= BATCH_BYTES && !self.is_complete(segments)
    }

    /// Whether nothing may follow: the last datagram was shorter, or there are as many as the kernel takes.
    fn is_complete(&self, segments: usize) -> bool {
        self.count >= segments || self.len < self.count * self.segment
    }

    /// Whether there was something to add.
    fn push(&mut self, link: Link, len: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> bool {
        if !fill(&mut self.buffer[self.len..self.len + len]) {
            return false;
        }
        if self.is_empty() {
            self.link = link;
            self.segment = len;
        }
        self.len += len;
        self.count += 1;
        true
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// One socket, as far as it sends.
#[derive(Debug)]
struct Outbox {
    socket: Arc<UdpSocket>,
    /// How many datagrams the kernel cuts out of one batch.
    segments: usize,
    /// The kernel had no room when it was tried last.
    blocked: bool,
    /// Where to, and how long.
    too_big: Vec<(SocketAddr, usize)>,
}

/// What became of one batch.
enum Sent {
    Done,
    Blocked,
}

impl Sent {
    fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked)
    }
}

impl Outbox {
    fn new(socket: Arc<UdpSocket>) -> io::Result<Self> {
        Ok(Self { segments: prepare(&socket)?.max_gso_segments(), socket, blocked: false, too_big: Vec::new() })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "there are a hundred others")]
    fn send(&mut self, batch: &Batch, counters: &mut SendCounters) -> Sent {
        if self.blocked {
            return Sent::Blocked;
        }
        let count = batch.count as u64;
        let mut link = batch.link;
        let mut outcome = self.try_send(link, batch.bytes(), batch.segment);
        if link.local.is_some() && outcome.is_err_and(may_be_the_source) {
            // The address is gone, as after a change of network: the kernel chooses, and the peer will see the move (PROTOCOL §8.1).
            link.local = None;
            outcome = self.try_send(link, batch.bytes(), batch.segment);
            counters.moved += if outcome.is_ok() { count } else { 0 };
        }
        let Err(error) = outcome else {
            counters.sent += count;
            counters.batches += 1;
            return Sent::Done;
        };
        match error {
            Errno::EAGAIN => {
                self.blocked = true;
                return Sent::Blocked;
            }
            // The device cannot segment, or a segment is too large for it: the kernel does not say which.
            Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE if batch.count > 1 => {
                let refused = self.send_singly(link, batch, counters);
                if !refused && error != Errno::EMSGSIZE {
                    // It was segmentation that stood in the way.
                    self.segments = 1;
                }
            }
            _ => {
                self.note_refusal(error, link.remote, batch.segment);
                counters.dropped(error, count);
            }
        }
        Sent::Done
    }

    /// Whether the kernel refused any datagram of the batch for another reason than want of room.
    fn send_singly(&mut self, link: Link, batch: &Batch, counters: &mut SendCounters) -> bool {
        let (mut sent, mut refused) = (0, false);
        for datagram in batch.bytes().chunks(batch.segment.max(1)) {
            match self.try_send(link, datagram, datagram.len()) {
                Ok(()) => sent += 1,
                Err(error) => {
                    self.note_refusal(error, link.remote, datagram.len());
                    counters.dropped(error, 1);
                    refused |= error != Errno::EAGAIN;
                }
            }
        }
        counters.sent += sent;
        counters.batches += sent;
        refused
    }

    fn note_refusal(&mut self, error: Errno, remote: SocketAddr, len: usize) {
        if error == Errno::EMSGSIZE && self.too_big.len() < MAX_REFUSALS {
            self.too_big.push((remote, len));
        }
    }

    fn try_send(&self, link: Link, contents: &[u8], segment: usize) -> nix::Result<()> {
        let segment = u16::try_from(segment).ok().filter(|segment| usize::from(*segment) < contents.len());
        let (tos, class) = (link.class.byte(), link.class.byte().into());
        let source = link.local.map(Source::new);
        let class = (link.class != TrafficClass::default()).then_some(match link.remote {
            SocketAddr::V4(_) => ControlMessage::Ipv4Tos(&tos),
            SocketAddr::V6(_) => ControlMessage::Ipv6TClass(&class),
        });
        let hops = link.hop_limit.map(libc::c_int::from);
        let hops = hops.as_ref().map(|hops| match link.remote {
            SocketAddr::V4(_) => ControlMessage::Ipv4Ttl(hops),
            SocketAddr::V6(_) => ControlMessage::Ipv6HopLimit(hops),
        });
        let segment = segment.as_ref().map(ControlMessage::UdpGsoSegments);
        let source = source.as_ref().map(Source::message);
        let messages: Vec<ControlMessage<'_>> = [class, hops, segment, source].into_iter().flatten().collect();
        let (socket, remote) = (self.socket.as_raw_fd(), SockaddrStorage::from(link.remote));
        loop {
            match sendmsg(socket, &[IoSlice::new(contents)], &messages, MsgFlags::empty(), Some(&remote)) {
                Err(Errno::EINTR) => {}
                result => return result.map(|_| ()),
            }
        }
    }
}

/// The address that a datagram leaves from, as the kernel wants to be told.
enum Source {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

impl Source {
    fn new(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            IpAddr::V6(address) => {
                Self::V6(libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex: 0 })
            }
        }
    }

    fn message(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

/// IPv4 calls a source that is no address of this host unreachable, IPv6 calls it invalid.
fn may_be_the_source(error: Errno) -> bool {
    matches!(error, Errno::EINVAL | Errno::ENETUNREACH | Errno::EADDRNOTAVAIL)
}

impl SendCounters {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            batches: self.batches + other.batches,
            moved: self.moved + other.moved,
            full: self.full + other.full,
            unreachable: self.unreachable + other.unreachable,
            refused: self.refused + other.refused,
            too_big: self.too_big + other.too_big,
            denied: self.denied + other.denied,
            no_buffers: self.no_buffers + other.no_buffers,
            no_socket: self.no_socket + other.no_socket,
            other: self.other + other.other,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "there are a hundred others")]
    fn dropped(&mut self, error: Errno, count: u64) {
        let counter = match error {
            Errno::EAGAIN => &mut self.full,
            Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN => &mut self.unreachable,
            Errno::ECONNREFUSED => &mut self.refused,
            Errno::EMSGSIZE => &mut self.too_big,
            Errno::EPERM | Errno::EACCES => &mut self.denied,
            Errno::ENOBUFS | Errno::ENOMEM => &mut self.no_buffers,
            _ => &mut self.other,
        };
        *counter += count;
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::net::IpAddr;
    use std::time::Duration;

    use nix::libc;
    use nix::sys::socket::{ControlMessageOwned, recvmsg, setsockopt, sockopt};
    use proptest::prelude::*;

    use super::*;
    use crate::base::Ecn;
    use crate::io::netlink::tests::{in_namespace, ip, run};
    use crate::io::poller::Poller;
    use crate::io::udp::{Receiver, bind};

    /// Whoever wants no checksums gets no segmentation.
    fn refuse_segmentation(socket: &UdpSocket) {
        let yes: libc::c_int = 1;
        #[expect(unsafe_code, reason = "the safe wrappers do not know the option")]
        // SAFETY: SO_NO_CHECK reads one number, which lives until the call returns.
        let result = unsafe {
            let (value, len) = ((&raw const yes).cast(), size_of_val(&yes) as libc::socklen_t);
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, len)
        };
        assert_eq!(result, 0);
    }

    const HERE: [IpAddr; 2] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];

    /// A pair that takes whatever is sent to its port.
    struct Far(Vec<Receiver>, u16, Sender);

    fn far() -> Far {
        let pair = bind(0, None, 1).unwrap().remove(0);
        Far(pair.receivers().unwrap(), pair.port().unwrap(), pair.sender().unwrap())
    }

    fn sender() -> Sender {
        bind(0, None, 1).unwrap()[0].sender().unwrap()
    }

    fn send(sender: &mut Sender, link: Link, datagram: &[u8]) {
        sender.transmit(link, datagram.len(), |room| room.copy_from_slice(datagram));
    }

    impl Far {
        /// The next `count` datagrams of both sockets.
        fn take(&mut self, count: usize) -> Vec<(Link, Vec<u8>)> {
            let poller = Poller::new().unwrap();
            self.0.iter().for_each(|receiver| poller.watch(receiver.socket(), 0).unwrap());
            let mut datagrams = Vec::new();
            while datagrams.len() < count {
                poller.poll(true, |_| {}).unwrap();
                for receiver in &mut self.0 {
                    datagrams.extend(receiver.receive().1.map(|(link, datagram)| (link, datagram.to_vec())));
                }
            }
            datagrams
        }
    }

    #[test]
    fn a_train_of_datagrams_is_one_system_call_and_arrives_whole() {
        for here in HERE {
            let (mut far, mut sender) = (far(), sender());
            let link = Link::to(SocketAddr::new(here, far.1));
            let train: Vec<Vec<u8>> =
                (0..20).map(|number: u8| vec![number; if number == 19 { 77 } else { 1228 }]).collect();
            for datagram in &train {
                send(&mut sender, link, datagram);
            }
            sender.flush();
            assert_eq!((sender.counters().sent, sender.counters().batches), (20, 1));
            let received: Vec<Vec<u8>> = far.take(20).into_iter().map(|(_, bytes)| bytes).collect();
            assert_eq!(received, train);
        }
    }

    #[test]
    fn a_reply_leaves_from_the_address_that_was_spoken_to_and_ecn_is_carried() {
        let (mut a, mut b) = (far(), far());
        let spoken_to: SocketAddr = ([127, 7, 7, 7], b.1).into();
        send(&mut a.2, Link::to(spoken_to).bearing(TrafficClass::new(46, Ecn::Ect0)), b"question");
        a.2.flush();
        let (link, _) = b.take(1).remove(0);
        assert_eq!((link.local, link.class), (Some(spoken_to.ip()), TrafficClass::new(0, Ecn::Ect0)));
        send(&mut b.2, link, b"answer");
        b.2.flush();
        let (link, answer) = a.take(1).remove(0);
        assert_eq!((link.remote, &answer[..]), (spoken_to, &b"answer"[..]));
    }

    /// The class of the next datagram, as its header says.
    #[expect(clippy::wildcard_enum_match_arm, reason = "other messages say nothing of the class")]
    fn class_of_next(socket: &UdpSocket) -> TrafficClass {
        let (mut bytes, mut room) = ([0; 2000], nix::cmsg_space!(libc::c_int));
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut room), MsgFlags::empty()).unwrap();
        let byte = received.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::Ipv4Tos(tos) => Some(tos),
            ControlMessageOwned::Ipv6TClass(class) => Some(class as u8),
            _ => None,
        });
        TrafficClass::from_byte(byte.unwrap())
    }

    #[test]
    fn each_datagram_has_the_class_of_its_link_or_else_of_its_socket() {
        for here in HERE {
            let far = UdpSocket::bind((here, 0)).unwrap();
            if here.is_ipv4() {
                setsockopt(&far, sockopt::IpRecvTos, &true).unwrap();
            } else {
                setsockopt(&far, sockopt::Ipv6RecvTClass, &true).unwrap();
            }
            let pair = bind(0, None, 1).unwrap().remove(0);
            let mut sender = pair.sender().unwrap();
            let link = Link::to(far.local_addr().unwrap());
            let [none, ef, ef_capable, capable] = [0, 46 << 2, 46 << 2 | 2, 2].map(TrafficClass::from_byte);
            let classes = [none, ef, none, ef, ef_capable, none, ef_capable, capable];
            for class in classes {
                send(&mut sender, link.bearing(class), &[0; 500]);
            }
            sender.flush();
            assert_eq!((sender.counters().sent, sender.counters().batches), (8, 4), "one class a batch");
            let seen = classes.map(|_| class_of_next(&far));
            let of = |codepoint| seen.iter().copied().filter(move |class| class.dscp() == codepoint);
            assert!(of(0).eq([none, none, none, capable]) && of(46).eq([ef, ef, ef_capable, ef_capable]), "{seen:?}");

            pair.set_class(TrafficClass::new(8, Ecn::NotEct)).unwrap();
            send(&mut sender, link, b"nothing special");
            send(&mut sender, Link::new(Some(here), link.remote).bearing(TrafficClass::new(10, Ecn::Ect1)), b"special");
            sender.flush();
            let expected = [TrafficClass::new(8, Ecn::NotEct), TrafficClass::new(10, Ecn::Ect1)];
            assert_eq!(expected.map(|_| class_of_next(&far)), expected);
        }
    }

    /// How many routers the next datagram might have passed still.
    #[expect(clippy::wildcard_enum_match_arm, reason = "other messages say nothing of it")]
    fn hops_of_next(socket: &UdpSocket) -> i32 {
        let (mut bytes, mut room) = ([0; 2000], nix::cmsg_space!(libc::c_int));
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut room), MsgFlags::empty()).unwrap();
        let hops = received.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
            _ => None,
        });
        hops.unwrap()
    }

    #[test]
    fn each_datagram_has_the_hop_limit_of_its_link_or_else_of_the_host() {
        for here in HERE {
            let far = UdpSocket::bind((here, 0)).unwrap();
            if here.is_ipv4() {
                setsockopt(&far, sockopt::Ipv4RecvTtl, &true).unwrap();
            } else {
                setsockopt(&far, sockopt::Ipv6RecvHopLimit, &true).unwrap();
            }
            let mut sender = sender();
            let link = Link::to(far.local_addr().unwrap());
            let links = [link, link.within(3), link.within(3), link.within(1), link, link];
            for link in links {
                send(&mut sender, link, &[0; 500]);
            }
            send(&mut sender, Link::new(Some(here), link.remote).within(255), b"from a known address");
            sender.flush();
            assert_eq!((sender.counters().sent, sender.counters().batches), (7, 5), "one hop limit a batch");
            let seen = [(); 7].map(|()| hops_of_next(&far));
            let usual = seen[0];
            assert!(usual > 3, "{seen:?}");
            assert_eq!(seen, [usual, 3, 3, 1, usual, usual, 255]);
        }
    }

    #[test]
    fn datagrams_from_an_address_that_is_gone_leave_from_another_and_segmentation_stays() {
        let (mut far, mut sender) = (far(), sender());
        for here in HERE {
            let gone = if here.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
            let remote = SocketAddr::new(here, far.1);
            let segments = sender.segments_to(Link::to(remote));
            for number in 0..3 {
                send(&mut sender, Link::new(Some(gone.parse().unwrap()), remote), &[number; 100]);
            }
            sender.flush();
            assert!(far.take(3).iter().all(|(link, _)| link.remote.ip() == here));
            assert_eq!(sender.segments_to(Link::to(remote)), segments);
        }
        assert_eq!((sender.counters().moved, sender.counters().sent), (6, 6));
    }

    #[test]
    fn where_the_kernel_refuses_to_segment_datagrams_go_one_by_one_from_then_on() {
        for here in HERE {
            let (mut far, mut sender) = (far(), sender());
            let link = Link::to(SocketAddr::new(here, far.1));
            // More than any kernel cuts out of one batch: it says that the argument is invalid, as it does where a device is in the way.
            [&mut sender.v4, &mut sender.v6].into_iter().flatten().for_each(|outbox| outbox.segments = 500);
            let count = 200;
            for number in 0..count {
                send(&mut sender, link, &[number; 50]);
            }
            sender.flush();
            let received: Vec<Vec<u8>> = far.take(count.into()).into_iter().map(|(_, bytes)| bytes).collect();
            assert_eq!(received, (0..count).map(|number| vec![number; 50]).collect::<Vec<_>>());
            let expected = SendCounters { sent: 200, batches: 200, ..SendCounters::default() };
            assert_eq!((sender.counters(), sender.segments_to(link)), (expected, 1));
        }
    }

    #[test]
    fn failures_are_counted_by_reason_and_kill_nothing() {
        in_namespace(|| async {
            ip("link set lo up");
            ip("link add eth0 type veth peer name far");
            ip("link set far up");
            ip("link set eth0 mtu 1200 up");
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("route add unreachable 198.51.100.0/24");
            ip("route add prohibit 203.0.113.0/24");
            let mut sender = sender();
            let v4_segments = sender.segments_to(Link::to("192.0.2.2:1".parse().unwrap()));
            for remote in ["198.51.100.1:9", "203.0.113.1:9", "8.8.8.8:9", "[2001:db8::1]:9"] {
                send(&mut sender, Link::to(remote.parse().unwrap()), b"to nowhere");
            }
            for _ in 0..3 {
                send(&mut sender, Link::to("192.0.2.2:9".parse().unwrap()), &[0; 1228]);
            }
            sender.flush();
            let expected = SendCounters { unreachable: 3, denied: 1, too_big: 3, ..SendCounters::default() };
            assert_eq!(sender.counters(), expected);
            let refused: Vec<_> = std::iter::from_fn(|| sender.take_too_big()).collect();
            assert_eq!(refused, [("192.0.2.2:9".parse().unwrap(), 1228); 3]);
            assert_eq!(
                sender.segments_to(Link::to("192.0.2.2:1".parse().unwrap())),
                v4_segments,
                "not the device's fault"
            );
        });
    }

    #[test]
    fn a_full_socket_holds_the_batch_and_drops_only_what_finds_no_room() {
        in_namespace(|| async {
            ip("link set lo up");
            ip("link add eth0 type veth peer name far");
            ip("link set far up");
            ip("link set eth0 up");
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0");
            // A slow link with a queue larger than the socket's buffer.
            run("tc qdisc add dev eth0 root tbf rate 40mbit burst 64k limit 100m");
            let mut sender = sender();
            let link = Link::to("192.0.2.2:9".parse().unwrap());
            while sender.counters().full == 0 {
                send(&mut sender, link, &[0; 1228]);
            }
            assert!(sender.is_blocked());
            let sent = sender.counters().sent;
            let held = sender.slots.iter().map(|batch| batch.count).sum::<usize>();
            assert_eq!(held, BATCH_BYTES / 1228);
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            while sender.is_blocked() {
                assert!(tokio::time::Instant::now() < deadline);
                tokio::time::sleep(Duration::from_millis(1)).await;
                sender.flush();
            }
            assert!(!sender.is_blocked());
            assert_eq!(sender.counters().sent, sent + held as u64);
        });
    }

    #[test]
    fn a_socket_that_cannot_segment_and_has_no_room_is_not_asked_to_segment_again() {
        in_namespace(|| async {
            ip("link set lo up");
            ip("link add eth0 type veth peer name far");
            ip("link set far up");
            ip("link set eth0 up");
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0");
            run("tc qdisc add dev eth0 root tbf rate 4mbit burst 64k limit 100m");
            let pair = bind(0, None, 1).unwrap().remove(0);
            let socket = pair.v4.as_ref().unwrap();
            refuse_segmentation(socket);
            let mut sender = pair.sender().unwrap();
            let link = Link::to("192.0.2.2:9".parse().unwrap());
            (0..50).for_each(|_| send(&mut sender, link, &[0; 1228]));
            // Room for the first of them, but not for all.
            while sender.counters() == SendCounters::default() {
                while socket.send_to(&[0; 1228], link.remote).is_ok() {}
                tokio::time::sleep(Duration::from_millis(1)).await;
                sender.flush();
            }
            let counters = sender.counters();
            assert!(counters.full > 0 && counters.sent + counters.full == 50, "{counters:?}");
            assert_eq!(sender.segments_to(link), 1);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever the lengths and destinations, each receiver gets its datagrams unchanged and in order.
        #[test]
        fn batching_changes_nothing_but_the_number_of_calls(
            plan in prop::collection::vec((0..12_usize, prop_oneof![Just(1228), Just(600), 1..2000_usize]), 1..150),
        ) {
            let mut far: Vec<Far> = (0..6).map(|_| far()).collect();
            let mut sender = sender();
            let mut expected = vec![Vec::new(); 12];
            for (number, (to, len)) in plan.iter().enumerate() {
                let remote = SocketAddr::new(HERE[to / 6], far[to % 6].1);
                let datagram = vec![number as u8; *len];
                send(&mut sender, Link::to(remote), &datagram);
                expected[*to].push(datagram);
            }
            sender.flush();
            assert_eq!(sender.counters().sent, plan.len() as u64);
            for (number, far) in far.iter_mut().enumerate() {
                let mut received = [Vec::new(), Vec::new()];
                for (link, datagram) in far.take(expected[number].len() + expected[number + 6].len()) {
                    received[usize::from(link.remote.is_ipv6())].push(datagram);
                }
                assert_eq!(received[0], expected[number]);
                assert_eq!(received[1], expected[number + 6]);
            }
        }
    }
}
