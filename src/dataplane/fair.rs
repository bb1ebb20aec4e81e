//! Between the interface and the cipher: each flow waits behind its own packets only (RFC 8290).
//!
//! The interface's own queue is one line for all, and the kernel lets a single TCP connection fill it: a ping behind it would wait for
//! megabytes. So that queue is emptied into this one, which serves flows in turn by bytes, a flow that has just begun before those that have been
//! at it for long, and tells senders whose packets keep waiting.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use super::codel::Codel;
use crate::io::offload::VnetHeader;
use crate::io::tun::MAX_READ;
use crate::ip::IpPacket;
use crate::overlay::flow::ChannelRules;

/// Flows are told apart by a keyed hash: nobody outside can aim at another flow's place.
const FLOWS: usize = 256;

/// What a flow may send before others have their turn, in bytes: a few packets, so that what is short passes in one turn.
const QUANTUM: usize = 8 << 10;

/// All packets that wait: two milliseconds at 10 Gbit/s. Beyond that the flow that has most waiting loses its oldest.
const MAX_BYTES: usize = 5 << 19;

/// What a packet counts beside its length, so that many small ones have a bound as well.
const OVERHEAD: usize = 256;

/// Up to here a packet is copied into a buffer of its own size; larger ones, which are super packets, keep the buffer they were read into.
const SMALL: usize = 2048;

/// Buffers that are kept for the next packets.
const SPARE_SMALL: usize = 256;
const SPARE_LARGE: usize = 40;

/// RFC 8290 §5.2: right for round trips from 10 ms to a second, and harmless for others.
const TARGET: Duration = Duration::from_millis(5);
const INTERVAL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct FairQueue {
    hasher: RandomState,
    flows: Vec<Flow>,
    /// Flows that had nothing waiting until now.
    new: VecDeque<usize>,
    old: VecDeque<usize>,
    bytes: usize,
    /// What the next packet is read into.
    reading: Vec<u8>,
    spare_small: Vec<Vec<u8>>,
    spare_large: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Flow {
    packets: VecDeque<Waiting>,
    bytes: usize,
    credit: isize,
    listed: bool,
    codel: Codel,
}

#[derive(Debug)]
struct Waiting {
    buffer: Vec<u8>,
    len: usize,
    since: Instant,
}

/// The packet whose turn it is. Goes back with [`FairQueue::recycle`].
#[derive(Debug)]
pub(super) struct Turn {
    buffer: Vec<u8>,
    len: usize,
    /// Its sender should be told to slow down.
    pub(super) congested: bool,
}

impl Turn {
    /// Header and packet.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.len).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl FairQueue {
    pub(super) fn new() -> Self {
        let flow = || Flow {
            packets: VecDeque::new(),
            bytes: 0,
            credit: 0,
            listed: false,
            codel: Codel::new(TARGET, INTERVAL),
        };
        Self {
            hasher: RandomState::new(),
            flows: std::iter::repeat_with(flow).take(FLOWS).collect(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            bytes: 0,
            reading: vec![0; MAX_READ],
            spare_small: Vec::new(),
            spare_large: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Room for the next packet, of [`MAX_READ`] bytes.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.reading
    }

    /// The first `len` bytes of what was read are a header and a packet. Returns how many packets lost their place to it; `None` if it is no packet.
    pub(super) fn push(&mut self, now: Instant, len: usize, rules: &ChannelRules) -> Option<u64> {
        let (_, packet) = VnetHeader::split(self.reading.get(..len)?)?;
        let slot = self.slot_of(&IpPacket::parse(packet).ok()?, rules);
        let buffer = if len <= SMALL {
            let mut buffer = self.spare_small.pop().unwrap_or_else(|| Vec::with_capacity(SMALL));
            buffer.clear();
            buffer.extend_from_slice(self.reading.get(..len).unwrap_or_default());
            buffer
        } else {
            let next = self.spare_large.pop().unwrap_or_else(|| vec![0; MAX_READ]);
            std::mem::replace(&mut self.reading, next)
        };
        if let Some(flow) = self.flows.get_mut(slot) {
            self.bytes += len + OVERHEAD;
            flow.bytes += len + OVERHEAD;
            flow.packets.push_back(Waiting { buffer, len, since: now });
            if !flow.listed {
                flow.listed = true;
                flow.credit = QUANTUM.cast_signed();
                self.new.push_back(slot);
            }
        }
        let mut lost = 0;
        while self.bytes > MAX_BYTES && self.drop_oldest_of_largest() {
            lost += 1;
        }
        Some(lost)
    }

    /// Where a packet waits. Fragments have no ports but the first, and none of them may overtake another; nor may the flows of one reliable channel, which
    /// promises an order among them.
    fn slot_of(&self, packet: &IpPacket<'_>, rules: &ChannelRules) -> usize {
        let hash = match rules.channel_for(packet) {
            Some(channel) => self.hasher.hash_one(channel),
            None => {
                let ports = if packet.is_fragment() { None } else { packet.ports() };
                self.hasher.hash_one((packet.src(), packet.dst(), packet.protocol(), ports))
            }
        };
        // The remainder is less than FLOWS.
        (hash % FLOWS as u64) as usize
    }

    /// The packet whose turn it is.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Turn> {
        loop {
            let is_new = !self.new.is_empty();
            let slot = *if is_new { self.new.front() } else { self.old.front() }?;
            let flow = self.flows.get_mut(slot)?;
            if flow.credit <= 0 {
                flow.credit += QUANTUM.cast_signed();
                self.leave(is_new);
                self.old.push_back(slot);
                continue;
            }
            let Some(Waiting { buffer, len, since }) = flow.packets.pop_front() else {
                // A flow that comes back at once would else be new each time, and always first.
                self.leave(is_new);
                if is_new {
                    self.old.push_back(slot);
                } else {
                    self.flows.get_mut(slot)?.listed = false;
                }
                continue;
            };
            flow.bytes -= len + OVERHEAD;
            flow.credit -= len.cast_signed();
            self.bytes -= len + OVERHEAD;
            let congested = flow.codel.on_leave(now, now.saturating_duration_since(since), flow.packets.is_empty());
            return Some(Turn { buffer, len, congested });
        }
    }

    /// Takes the buffer back.
    pub(super) fn recycle(&mut self, turn: Turn) {
        self.keep(turn.buffer);
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        let (spare, most) = if buffer.capacity() < MAX_READ {
            (&mut self.spare_small, SPARE_SMALL)
        } else {
            (&mut self.spare_large, SPARE_LARGE)
        };
        if spare.len() < most {
            spare.push(buffer);
        }
    }

    fn leave(&mut self, is_new: bool) {
        if is_new { &mut self.new } else { &mut self.old }.pop_front();
    }

    /// False if nothing waits.
    fn drop_oldest_of_largest(&mut self) -> bool {
        let Some(flow) = self.flows.iter_mut().max_by_key(|flow| flow.bytes) else { return false };
        let Some(Waiting { buffer, len, .. }) = flow.packets.pop_front() else { return false };
        flow.bytes -= len + OVERHEAD;
        self.bytes -= len + OVERHEAD;
        self.keep(buffer);
        true
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::sample::start;

    /// Header and packet of a flow that is known by its port, `len` bytes of payload that begin with `number`.
    fn push(queue: &mut FairQueue, port: u16, number: u32, len: usize) -> u64 {
        let mut read = VnetHeader::PLAIN.encode().to_vec();
        let mut payload = vec![0; len.max(4)];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        PacketBuilder::ipv4([10, 77, 0, 1], [10, 77, 0, 2], 64).udp(port, 9).write(&mut read, &payload).unwrap();
        queue.room()[..read.len()].copy_from_slice(&read);
        queue.push(start(), read.len(), &ChannelRules::default()).unwrap()
    }

    /// Port and number of the packet whose turn it is.
    fn pop(queue: &mut FairQueue) -> Option<(u16, u32)> {
        queue.pop(start()).map(|turn| seen(queue, turn))
    }

    fn seen(queue: &mut FairQueue, mut turn: Turn) -> (u16, u32) {
        let (_, packet) = VnetHeader::split(turn.bytes()).unwrap();
        let port = IpPacket::parse(packet).unwrap().ports().unwrap().0;
        let number = u32::from_be_bytes(packet[28..32].try_into().unwrap());
        queue.recycle(turn);
        (port, number)
    }

    /// Two ports whose flows do not share a place.
    fn two_flows(queue: &FairQueue) -> (u16, u16) {
        let slot = |port: u16| {
            let mut packet = Vec::new();
            PacketBuilder::ipv4([10, 77, 0, 1], [10, 77, 0, 2], 64).udp(port, 9).write(&mut packet, &[0; 4]).unwrap();
            queue.slot_of(&IpPacket::parse(&packet).unwrap(), &ChannelRules::default())
        };
        (1, (2..).find(|port| slot(*port) != slot(1)).unwrap())
    }

    #[test]
    fn a_packet_of_a_flow_that_has_just_begun_passes_those_of_a_flow_that_fills_the_queue() {
        let mut queue = FairQueue::new();
        let (bulk, ping) = two_flows(&queue);
        (0..30).for_each(|number| assert_eq!(push(&mut queue, bulk, number, 60_000), 0));
        // The first one has used up what a new flow may send.
        assert_eq!(pop(&mut queue), Some((bulk, 0)));
        push(&mut queue, ping, 0, 56);
        assert_eq!(pop(&mut queue), Some((ping, 0)));
        assert_eq!(pop(&mut queue), Some((bulk, 1)));
    }

    #[test]
    fn flows_share_by_bytes_and_not_by_packets() {
        let mut queue = FairQueue::new();
        let (large, small) = two_flows(&queue);
        (0..20).for_each(|number| _ = push(&mut queue, large, number, 60_000));
        (0..1000).for_each(|number| _ = push(&mut queue, small, number, 1000));
        let turns: Vec<_> = std::iter::from_fn(|| pop(&mut queue)).take(500).collect();
        let larges = turns.iter().filter(|(port, _)| *port == large).count();
        assert!((7..=10).contains(&larges), "{larges} of 60,000 bytes beside {} of 1000", 500 - larges);
    }

    #[test]
    fn a_full_queue_takes_from_the_flow_that_has_most_waiting() {
        let mut queue = FairQueue::new();
        let (bulk, other) = two_flows(&queue);
        push(&mut queue, other, 7, 1000);
        let lost: u64 = (0..100).map(|number| push(&mut queue, bulk, number, 60_000)).sum();
        assert!(lost > 50 && queue.bytes <= MAX_BYTES, "{lost}");
        let turns: Vec<_> = std::iter::from_fn(|| pop(&mut queue)).collect();
        assert!(turns.contains(&(other, 7)));
        let kept: Vec<_> = turns.iter().filter(|(port, _)| *port == bulk).map(|(_, number)| *number).collect();
        // The oldest: whoever waits for it has given up first, and its loss is heard of soonest.
        assert_eq!(kept, (u32::try_from(lost).unwrap()..100).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_packet_takes_no_place() {
        let mut queue = FairQueue::new();
        for len in [0, 5, VnetHeader::LEN, VnetHeader::LEN + 1, 100] {
            queue.room()[..len].fill(0);
            assert_eq!(queue.push(start(), len, &ChannelRules::default()), None);
        }
        assert!(queue.is_empty() && queue.pop(start()).is_none());
    }

    proptest! {
        #[test]
        fn no_flow_is_reordered_and_nothing_is_lost_below_the_bound(
            steps in prop::collection::vec((any::<bool>(), 0..600_u16, 4..3000_usize), 1..800),
        ) {
            let mut queue = FairQueue::new();
            let (mut given, mut taken) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
            let mut take = |queue: &mut FairQueue| {
                let Some((port, number)) = pop(queue) else { return Ok(false) };
                let next: &mut u32 = taken.entry(port).or_default();
                prop_assert_eq!(number, *next);
                *next += 1;
                Ok(true)
            };
            for (pushes, port, len) in steps {
                if pushes {
                    let next: &mut u32 = given.entry(port).or_default();
                    prop_assert_eq!(push(&mut queue, port, *next, len), 0);
                    *next += 1;
                } else {
                    take(&mut queue)?;
                }
            }
            while take(&mut queue)? {}
            prop_assert!(queue.is_empty());
            prop_assert_eq!(given, taken);
        }
    }
}
