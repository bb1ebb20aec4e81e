//! The receiving half of one reliable channel (PROTOCOL §10, "Receiving") and the record stream in it (PROTOCOL §9.3).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::ack::{Acknowledgement, MAX_RANGES};
use super::ranges::Ranges;
use super::{ENTRY_COST, FrameFault, INITIAL_WINDOW, MAX_WINDOW};

/// How a message fits what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one, with nothing waiting behind it.
    InOrder,
    /// It leaves a gap or fills one.
    Gap,
}

/// How much may still be held for a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes, [`ENTRY_COST`] for each message included.
    pub(super) bytes: usize,
    /// Whether the next message in order is taken in any case, so that one channel always moves on.
    pub(super) first_of_all: bool,
}

impl Room {
    /// The window to advertise.
    pub(super) fn window(self) -> u16 {
        let messages = self.bytes / (super::MAX_MESSAGE + ENTRY_COST);
        u16::try_from(messages).unwrap_or(MAX_WINDOW).min(MAX_WINDOW).max(u16::from(self.first_of_all))
    }
}

/// What arrived on a channel and was not yet handed on.
#[derive(Debug)]
pub(super) struct Receiver {
    expected: u64,
    waiting: BTreeMap<u64, Box<[u8]>>,
    ranges: Ranges,
    stream: RecordStream,
    /// Cost of all that waits, the unfinished record included.
    held: usize,
    newest: u64,
    newest_at: Option<Instant>,
    /// The first message beyond the window that was last advertised.
    advertised: u64,
    /// Whether an acknowledgement is to be sent, now or soon.
    pub(super) owes: bool,
}

impl Receiver {
    /// The receiving half of `channel`, which begins with message `first`.
    pub(super) fn new(channel: u8, first: u64) -> Self {
        Self {
            expected: first,
            waiting: BTreeMap::new(),
            ranges: Ranges::default(),
            stream: RecordStream { channel, state: State::Between },
            held: 0,
            newest: first,
            newest_at: None,
            advertised: first + u64::from(INITIAL_WINDOW),
            owes: false,
        }
    }

    /// Takes message `number`, and appends the records that it completes to `complete`.
    ///
    /// # Errors
    /// The message is dropped; after [`FrameFault::RecordLength`] the stream has no meaning any more.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        number: u64,
        data: &[u8],
        room: Room,
        complete: &mut VecDeque<(u8, Vec<u8>)>,
    ) -> Result<Arrival, FrameFault> {
        if number < self.expected || self.waiting.contains_key(&number) {
            return Err(FrameFault::Duplicate);
        }
        let cost = data.len() + ENTRY_COST;
        let next = number == self.expected;
        if number - self.expected >= u64::from(MAX_WINDOW) || (cost > room.bytes && !(next && room.first_of_all)) {
            return Err(FrameFault::BeyondWindow);
        }
        self.newest = number;
        self.newest_at = Some(now);
        if !next {
            self.waiting.insert(number, data.into());
            self.ranges.insert(number);
            self.held += cost;
            return Ok(Arrival::Gap);
        }
        let arrival = if self.waiting.is_empty() { Arrival::InOrder } else { Arrival::Gap };
        self.expected += 1;
        self.feed(data, complete)?;
        if let Some(end) = self.ranges.take_at(self.expected) {
            while self.expected < end {
                let Some(data) = self.waiting.remove(&self.expected) else { break };
                self.held -= data.len() + ENTRY_COST;
                self.expected += 1;
                self.feed(&data, complete)?;
            }
            if self.waiting.is_empty() {
                // Trees that were emptied keep their last node.
                (self.waiting, self.ranges) = (BTreeMap::new(), Ranges::default());
            }
        }
        Ok(arrival)
    }

    fn feed(&mut self, data: &[u8], complete: &mut VecDeque<(u8, Vec<u8>)>) -> Result<(), FrameFault> {
        self.held -= self.stream.held();
        let fed = self.stream.feed(data, complete);
        self.held += self.stream.held();
        fed
    }

    /// What an acknowledgement frame is to say now.
    pub(super) fn acknowledgement(&self, now: Instant, room: Room) -> Acknowledgement {
        let delay = self.newest_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        Acknowledgement { window: room.window(), delay, ranges: self.ranges.around(self.newest, MAX_RANGES) }
    }

    /// Notes that an acknowledgement with this window was sent.
    pub(super) fn on_acknowledged(&mut self, window: u16) {
        self.advertised = self.expected + u64::from(window);
        self.owes = false;
    }

    /// Whether the other side was told to send nothing.
    pub(super) const fn is_closed(&self) -> bool {
        self.advertised <= self.expected
    }

    /// The number of the next message in order.
    pub(super) const fn expected(&self) -> u64 {
        self.expected
    }

    /// Cost of all that waits here.
    pub(super) const fn held(&self) -> usize {
        self.held
    }
}

/// Cuts the byte stream of a channel into records.
#[derive(Debug)]
struct RecordStream {
    channel: u8,
    state: State,
}

#[derive(Debug)]
enum State {
    Between,
    /// The first byte of a length was read.
    HalfLength(u8),
    /// The buffer grows with what arrives: a length that is claimed costs nothing.
    Within {
        length: usize,
        record: Vec<u8>,
    },
}

impl RecordStream {
    fn held(&self) -> usize {
        match &self.state {
            State::Between => 0,
            State::HalfLength(_) => 1,
            State::Within { record, .. } => record.len() + 2,
        }
    }

    fn feed(&mut self, mut bytes: &[u8], complete: &mut VecDeque<(u8, Vec<u8>)>) -> Result<(), FrameFault> {
        loop {
            match &mut self.state {
                State::Between => {
                    let Some((high, rest)) = bytes.split_first() else { return Ok(()) };
                    self.state = State::HalfLength(*high);
                    bytes = rest;
                }
                State::HalfLength(high) => {
                    let Some((low, rest)) = bytes.split_first() else { return Ok(()) };
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    if !super::record_lengths(self.channel).contains(&length) {
                        return Err(FrameFault::RecordLength);
                    }
                    self.state = State::Within { length, record: Vec::new() };
                    bytes = rest;
                }
                State::Within { length, record } => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(*length - record.len()));
                    record.extend_from_slice(taken);
                    bytes = rest;
                    if record.len() < *length {
                        return Ok(());
                    }
                    complete.push_back((self.channel, std::mem::take(record)));
                    self.state = State::Between;
                }
            }
        }
    }
}
