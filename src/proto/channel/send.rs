//! The sending half of one reliable channel (PROTOCOL §10, "Sending"): records go in, become a byte stream, and leave as numbered messages.
//!
//! A record is kept whole until the ack number has passed its last byte, because only then the other side has handed it on; messages are mere
//! spans of the stream. So repeating costs a copy out of the records and no second buffer, and what a session leaves behind is whole records.

use std::collections::{BTreeSet, VecDeque};

use super::{INITIAL_WINDOW, MAX_MESSAGE, MAX_WINDOW};

/// A message is not cut shorter than this only because a packet is almost full.
const LEAST_CUT: usize = 256;

/// A record with its length prefix, at its place in the stream.
#[derive(Debug)]
struct Record {
    start: u64,
    bytes: Box<[u8]>,
}

impl Record {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// A numbered span of the stream.
#[derive(Clone, Copy, Debug)]
struct Message {
    start: u64,
    length: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Under way as this transmission.
    UnderWay(u64),
    /// To be transmitted again as soon as windows allow; also while its number probes a closed window.
    Lost,
    /// Acknowledged beyond the ack number.
    Arrived,
}

/// What is to be transmitted next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) number: u64,
    /// `None`: it is not cut yet.
    span: Option<(u64, u16)>,
}

impl Candidate {
    /// Whether the message was transmitted before.
    pub(super) const fn is_repeated(&self) -> bool {
        self.span.is_some()
    }
}

/// What was sent on a channel and is not yet acknowledged.
#[derive(Debug)]
pub(super) struct Sender {
    records: VecDeque<Record>,
    /// End of the last record, and of the last message, in the stream.
    end: u64,
    cut: u64,
    /// Messages from `first` on.
    messages: VecDeque<Message>,
    first: u64,
    lost: BTreeSet<u64>,
    under_way: usize,
    /// The first number that the other side does not want yet, and the ack number that came with it.
    edge: u64,
    edge_ack: u64,
    /// Whether one message is to go in spite of a closed window.
    pub(super) probe: bool,
}

impl Sender {
    /// A channel that begins with message `first`.
    pub(super) fn new(first: u64) -> Self {
        Self {
            records: VecDeque::new(),
            end: 0,
            cut: 0,
            messages: VecDeque::new(),
            first,
            lost: BTreeSet::new(),
            under_way: 0,
            edge: first + u64::from(INITIAL_WINDOW),
            edge_ack: first,
            probe: false,
        }
    }

    /// Appends a record; its length was checked.
    pub(super) fn push(&mut self, record: &[u8]) {
        let mut bytes = Vec::with_capacity(2 + record.len());
        bytes.extend_from_slice(&(record.len() as u16).to_be_bytes());
        bytes.extend_from_slice(record);
        let record = Record { start: self.end, bytes: bytes.into() };
        self.end = record.end();
        self.records.push_back(record);
    }

    /// The number of the next new message: everything before it was sent.
    pub(super) fn next(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    /// The oldest message that is not acknowledged.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    fn message(&self, number: u64) -> Option<&Message> {
        self.messages.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn message_mut(&mut self, number: u64) -> Option<&mut Message> {
        self.messages.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The next message: lost ones first, then what is not cut yet. It may lie beyond the window.
    fn candidate(&self) -> Option<Candidate> {
        if let Some(number) = self.lost.first().copied() {
            return self.repetition(number);
        }
        (self.cut < self.end).then(|| Candidate { number: self.next(), span: None })
    }

    /// The next message that the window of the other side allows.
    pub(super) fn ready(&self) -> Option<Candidate> {
        self.candidate().filter(|candidate| candidate.number < self.edge)
    }

    /// The message that probes the closed window, if that is due.
    pub(super) fn window_probe(&self) -> Option<Candidate> {
        if self.probe && self.is_blocked() { self.candidate() } else { None }
    }

    /// A message that was sent, to be sent once more.
    pub(super) fn repetition(&self, number: u64) -> Option<Candidate> {
        self.message(number).map(|message| Candidate { number, span: Some((message.start, message.length)) })
    }

    /// Whether there is something to send, nothing under way that could bring an acknowledgement, and no window.
    pub(super) fn is_blocked(&self) -> bool {
        self.under_way == 0 && self.candidate().is_some_and(|candidate| candidate.number >= self.edge)
    }

    /// Copies the data of `candidate` into `buffer`, a new message as long as `room` allows; `None` if it does not fit.
    pub(super) fn read(&self, candidate: Candidate, room: usize, buffer: &mut [u8; MAX_MESSAGE]) -> Option<usize> {
        let (start, length) = match candidate.span {
            Some((start, length)) => (start, usize::from(length)),
            None => {
                let all = usize::try_from(self.end - self.cut).unwrap_or(usize::MAX).min(MAX_MESSAGE);
                (self.cut, if room < all.min(LEAST_CUT) { all } else { all.min(room) })
            }
        };
        if length > room {
            return None;
        }
        let mut record = self.records.partition_point(|record| record.end() <= start);
        let mut copied = 0;
        while copied < length {
            let from = self.records.get(record)?;
            let skip = (start + copied as u64 - from.start) as usize;
            let bytes = from.bytes.get(skip..)?;
            let take = bytes.len().min(length - copied);
            buffer[copied..copied + take].copy_from_slice(&bytes[..take]);
            copied += take;
            record += 1;
        }
        Some(length)
    }

    /// Notes that `candidate` leaves with `length` bytes, as this transmission, or outside of all counting if it only probes the window.
    pub(super) fn on_transmit(&mut self, candidate: Candidate, length: usize, transmission: Option<u64>) {
        self.probe = false;
        if !candidate.is_repeated() {
            let state = transmission.map_or(State::Lost, State::UnderWay);
            self.messages.push_back(Message { start: self.cut, length: length as u16, state });
            self.cut += length as u64;
            match transmission {
                Some(_) => self.under_way += 1,
                None => drop(self.lost.insert(candidate.number)),
            }
            return;
        }
        let Some(transmission) = transmission else { return };
        self.lost.remove(&candidate.number);
        if let Some(message) = self.message_mut(candidate.number) {
            let before = std::mem::replace(&mut message.state, State::UnderWay(transmission));
            self.under_way += usize::from(!matches!(before, State::UnderWay(_)));
        }
    }

    /// Notes that message `number` is lost.
    pub(super) fn on_lost(&mut self, number: u64) {
        let Some(message) = self.message_mut(number) else { return };
        if matches!(message.state, State::UnderWay(_)) {
            message.state = State::Lost;
            self.under_way -= 1;
            self.lost.insert(number);
        }
    }

    /// Notes that all messages from `first` up to `end` have arrived; calls `arrived` with each transmission that ends by it.
    pub(super) fn on_arrived(&mut self, first: u64, end: u64, mut arrived: impl FnMut(u64)) {
        for number in first.max(self.first)..end.min(self.next()) {
            let Some(message) = self.message_mut(number) else { break };
            match std::mem::replace(&mut message.state, State::Arrived) {
                State::UnderWay(transmission) => {
                    self.under_way -= 1;
                    arrived(transmission);
                }
                State::Lost => drop(self.lost.remove(&number)),
                State::Arrived => {}
            }
        }
    }

    /// Lets go of everything before the ack number, which was noted as arrived; returns the bytes of each record that is done with.
    pub(super) fn release(&mut self, ack: u64, mut released: impl FnMut(usize)) {
        while self.first < ack && self.messages.pop_front().is_some() {
            self.first += 1;
        }
        let done = self.messages.front().map_or(self.cut, |message| message.start);
        while self.records.front().is_some_and(|record| record.end() <= done) {
            released(self.records.pop_front().map_or(0, |record| record.bytes.len()));
        }
        relax(&mut self.messages);
        relax(&mut self.records);
        if self.lost.is_empty() {
            // A tree that was emptied keeps its last node.
            self.lost = BTreeSet::new();
        }
    }

    /// Notes the window that came with an ack number; an older one is not believed.
    pub(super) fn on_window(&mut self, ack: u64, window: u16) {
        if ack >= self.edge_ack {
            self.edge_ack = ack;
            self.edge = ack + u64::from(window.min(MAX_WINDOW));
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.records.capacity() + self.messages.capacity()
    }

    /// The records that were not acknowledged to their last byte, in order.
    pub(super) fn into_unacknowledged(self) -> impl Iterator<Item = Vec<u8>> {
        self.records.into_iter().map(|record| {
            let mut bytes = record.bytes.into_vec();
            bytes.drain(..2);
            bytes
        })
    }
}

/// Gives the memory of a queue back when nothing is left in it, so that an idle session is small.
pub(super) fn relax<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
}
