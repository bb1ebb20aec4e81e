//! Two sessions' ends, a link between them that loses, delays, reorders and repeats, and a clock that only moves when nothing else can.

mod delivery;
mod limits;
mod rate;
mod timers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::base::Rng;
use crate::wire::{DataWriter, Frame, Packet};

/// Longest data packet (PROTOCOL §2.3).
const PACKET: usize = 1198;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a virtual clock")]
fn epoch() -> Instant {
    Instant::now()
}

/// One direction of a path.
struct Road {
    delay: Duration,
    /// Up to this much more, at random: packets overtake each other.
    jitter: Duration,
    /// Percent.
    loss: u32,
    repeats: u32,
    /// Time that a packet takes at the bottleneck, and how many wait before it.
    service: Duration,
    queue: u32,
    free_at: Option<Instant>,
    /// Packets that are lost whatever the dice say, counted from the next one.
    doomed: Vec<u64>,
    carried: u64,
}

impl Road {
    fn clean(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0,
            repeats: 0,
            service: Duration::ZERO,
            queue: u32::MAX,
            free_at: None,
            doomed: Vec::new(),
            carried: 0,
        }
    }

    fn rough(delay: Duration, jitter: Duration, loss: u32) -> Self {
        Self { jitter, loss, repeats: 5, ..Self::clean(delay) }
    }

    fn bottleneck(delay: Duration, service: Duration, queue: u32) -> Self {
        Self { service, queue, ..Self::clean(delay) }
    }

    /// When a packet that sets out `now` arrives, for each of its copies.
    fn carry(&mut self, now: Instant, rng: &mut Rng) -> Vec<Instant> {
        self.carried += 1;
        if self.doomed.contains(&(self.carried - 1)) || rng.below(100) < self.loss {
            return Vec::new();
        }
        let start = self.free_at.map_or(now, |free| free.max(now));
        if !self.service.is_zero() && start - now > self.service * self.queue {
            return Vec::new();
        }
        let done = start + self.service;
        self.free_at = Some(done);
        let copies = 1 + u32::from(rng.below(100) < self.repeats);
        let jitter = self.jitter.as_micros() as u32;
        (0..copies).map(|_| done + self.delay + Duration::from_micros(rng.below(jitter + 1).into())).collect()
    }
}

/// Ends `0` and `1` talk to each other, `2` and `3`, and so on; end `i` sends over road `i % 2`, which all pairs share.
struct World {
    now: Instant,
    ends: Vec<Channels>,
    roads: [Road; 2],
    air: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    flown: u64,
    delivered: Vec<Vec<(u8, Vec<u8>)>>,
    faults: Vec<(usize, FrameFault)>,
    /// Ends that take their records.
    reading: bool,
    rng: Rng,
}

impl World {
    fn new(seed: u64, pairs: usize, roads: [Road; 2]) -> Self {
        let now = epoch();
        Self {
            now,
            ends: (0..2 * pairs).map(|_| Channels::new(now)).collect(),
            roads,
            air: BTreeMap::new(),
            flown: 0,
            delivered: vec![Vec::new(); 2 * pairs],
            faults: Vec::new(),
            reading: true,
            rng: Rng::from_number(seed),
        }
    }

    fn clean(delay: Duration) -> Self {
        Self::new(0, 1, [Road::clean(delay), Road::clean(delay)])
    }

    /// Lets the channels of both ends of the first pair begin with message `first`.
    fn begin_at(&mut self, first: u64, ids: impl Iterator<Item = u8>) {
        for id in ids {
            for end in &mut self.ends {
                end.channels.insert(id, Channel::new(id, first));
            }
        }
    }

    fn send(&mut self, end: usize, channel: u8, record: &[u8]) -> Result<(), Full> {
        let sent = match channel {
            CONTROL => self.ends[end].send_control(self.now, record),
            1.. => self.ends[end].send(self.now, channel, record),
        };
        self.flush(end);
        sent
    }

    /// Sends all that is due at `end`.
    fn flush(&mut self, end: usize) {
        for turn in 0.. {
            assert!(turn < 20_000, "there is no end to it");
            let mut buffer = [0; PACKET];
            let mut writer = DataWriter::new(&mut buffer);
            if !self.ends[end].fill(self.now, &mut writer, Scope::All) {
                break;
            }
            let length = writer.finish();
            self.throw(end, &buffer[..length]);
        }
        assert!(!self.ends[end].has_due(self.now, Scope::All), "nothing was written, so nothing may be due");
    }

    fn throw(&mut self, from: usize, packet: &[u8]) {
        for arrives in self.roads[from % 2].carry(self.now, &mut self.rng) {
            self.flown += 1;
            self.air.insert((arrives, self.flown), (from ^ 1, packet.to_vec()));
        }
    }

    fn take_records(&mut self, end: usize) {
        while let Some(record) = self.ends[end].poll_record() {
            self.delivered[end].push(record);
        }
    }

    /// Lets the next thing happen, unless that is after `until`.
    fn step(&mut self, until: Instant) -> bool {
        let packet = self.air.keys().next().map(|(at, _)| *at);
        let timer = self.ends.iter().filter_map(Channels::deadline).min();
        let Some(next) = [packet, timer].into_iter().flatten().min().filter(|next| *next <= until) else {
            return false;
        };
        assert!(next >= self.now, "time does not run backwards");
        self.now = next;
        if packet == Some(next) {
            let (_, (end, packet)) = self.air.pop_first().unwrap();
            let Ok(Packet::Data(frames)) = Packet::decode(&packet) else { panic!("no data packet") };
            for frame in frames {
                let Ok(Frame::ReliableData { channel, sequence, ack, data }) = frame else { panic!("{frame:?}") };
                if let Err(fault) = self.ends[end].on_frame(self.now, channel, sequence, ack, data) {
                    self.faults.push((end, fault));
                }
            }
            if self.reading {
                self.take_records(end);
            }
            self.flush(end);
        } else {
            for end in 0..self.ends.len() {
                if self.ends[end].deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.ends[end].handle_timeout(self.now);
                    assert!(
                        self.ends[end].deadline().is_none_or(|deadline| deadline > self.now),
                        "a timer that stays due"
                    );
                    self.flush(end);
                }
            }
        }
        self.check_books();
        true
    }

    /// What must hold at any time.
    fn check_books(&self) {
        for end in &self.ends {
            let waiting: usize = end.channels.values().map(|channel| channel.receiver.held()).sum();
            let ready: usize = end.ready.iter().map(|(_, record)| record_cost(record.len())).sum();
            assert_eq!(end.held, waiting + ready);
            assert!(waiting <= 1200 << 10, "{waiting} bytes wait");
            assert!(end.kept <= SEND_ROOM && end.kept_control <= CONTROL_ROOM);
        }
    }

    /// Lets `duration` pass.
    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.step(until) {}
        self.now = until;
    }

    /// Lets time pass until nothing is left to happen.
    fn settle(&mut self) {
        let until = self.now + Duration::from_secs(3600);
        while self.step(until) {}
        assert!(self.air.is_empty());
        for end in &self.ends {
            assert_eq!(end.deadline(), None, "no timer runs while nothing is outstanding");
            assert_eq!((end.kept, end.kept_control, end.held), (0, 0, 0));
            assert_eq!(end.recovery.under_way(), 0);
            assert!(!end.is_dead());
        }
    }

    /// The records of one channel that came out at `end`.
    fn on_channel(&self, end: usize, id: u8) -> Vec<&[u8]> {
        self.delivered[end].iter().filter(|(channel, _)| *channel == id).map(|(_, record)| &record[..]).collect()
    }
}

/// A record of `length` bytes that differs from others.
fn record(tag: u32, length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (tag.wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) >> (at % 3)) as u8).collect()
}

/// The frames that `end` would send now, without a packet around them: `(channel, sequence, ack, data)`.
fn frames_of(end: &mut Channels, now: Instant, scope: Scope) -> Vec<(u8, u32, u32, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let mut buffer = [0; PACKET];
        let mut writer = DataWriter::new(&mut buffer);
        if !end.fill(now, &mut writer, scope) {
            return all;
        }
        let length = writer.finish();
        let Ok(Packet::Data(frames)) = Packet::decode(&buffer[..length]) else { panic!("no data packet") };
        for frame in frames {
            let Ok(Frame::ReliableData { channel, sequence, ack, data }) = frame else { panic!("{frame:?}") };
            all.push((channel, sequence, ack, data.to_vec()));
        }
    }
}
