//! The reliable channels of one session (PROTOCOL §9.2, §9.3, §10), and the parts of large packets (PROTOCOL §11.2).
//!
//! [`Channels`] knows everything about order, repetition and rate, and nothing about keys, addresses or sockets. Records go in by
//! [`Channels::send`] and come out on the other side by [`Channels::poll_record`], in order and once on each channel; between the two run
//! frames, which [`Channels::fill`] writes and [`Channels::on_frame`] reads.
//!
//! **Sending** ([`send`]). The records of a channel are one stream of bytes. A message is a span of it, cut when it first leaves, as long
//! as the packet has room. It keeps number and bytes for ever, so a repetition is the same message. A record is kept until the *ack number*
//! has passed its last byte: what the other side holds beyond a gap would be lost with the session, so it is not acknowledged yet as far as
//! the next session is concerned.
//!
//! **Receiving** ([`receive`]). The next message goes straight into the record that it belongs to; a later one waits. All that waits in a
//! session, the unfinished records and those that nobody has taken included, shares one budget; the window says what is left of it. The
//! windows of several channels overlap: whoever comes too late is dropped and repeated. When nothing is left, many channels may sit on half
//! a record each, and none could ever finish. So the first channel with something waiting is always given a window of one message: it
//! finishes its record, which is handed on, and then the next one is first.
//!
//! **Acknowledging** ([`ack`]). Every second message of the session, every irregularity, or 20 ms after any message. One acknowledgement
//! takes all that are owed along, for a frame of one channel alone would make older messages of the others look passed over; and data takes
//! them along as well. A window that was closed and opens again is announced at once.
//!
//! **Loss and rate** ([`recovery`], [`rtt`], [`congestion`]). One order of transmission, one round-trip estimate, one CUBIC window for all
//! channels; there the reasons stand too.
//!
//! **Closed windows.** A channel with something to send, nothing under way and no window sends one message at each expiry of a timer of its
//! own, in spite of the window. The answer says what the window is now, so a lost announcement stops nobody. Probes are outside of
//! congestion control: they are few, and that a closed door stays shut says nothing about the road.
//!
//! **Turns.** Channel 0 goes first, the others take turns message by message, each repeating before it sends anything new. A gap on one holds up
//! none of the others.
//!
//! **Lies.** A frame that acknowledges what was never sent, or whose ranges make no sense, is refused as a whole before it has changed
//! anything. An early acknowledgement of what is under way hurts only whoever sent it.

mod ack;
mod congestion;
mod number;
pub mod parts;
mod ranges;
mod receive;
mod recovery;
mod rtt;
mod send;
#[cfg(test)]
mod tests;
mod transmit;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use ack::Acknowledgement;
use receive::{Arrival, Receiver, Room};
use recovery::Recovery;
use rtt::{MAX_ACK_DELAY, Rtt};
use send::Sender;

/// The channel of control records.
pub const CONTROL: u8 = 0;
/// The last channel that is reliable.
pub const LAST_RELIABLE: u8 = 127;
/// The longest data field of a message; with it a data packet is full.
pub const MAX_MESSAGE: usize = 1183;

/// Window of a peer that has not said one.
const INITIAL_WINDOW: u16 = 64;
/// The largest window given, and believed.
const MAX_WINDOW: u16 = 1024;
/// What the books count for the keeping of a message or record, beside its bytes.
const ENTRY_COST: usize = 64;
/// What a session holds of received messages and records.
const RECEIVE_ROOM: usize = 1 << 20;
/// What a session keeps of IP packets to send.
const SEND_ROOM: usize = 2 << 20;
/// What a session keeps of control records to send.
const CONTROL_ROOM: usize = 16 << 10;
/// Messages after which an acknowledgement does not wait any longer.
const ARRIVALS_PER_ACK: u8 = 2;

// Beyond the room there is at most one message in order, on the one channel that moves on, and channel 0: what that adds up to.
const _: () = assert!(RECEIVE_ROOM + 65535 + 8192 + 2 * (MAX_MESSAGE + ENTRY_COST) < 1200 << 10);
// The longest record fits the room that there is for its kind.
const _: () = assert!(65535 + 2 + ENTRY_COST < SEND_ROOM && 8192 + 2 + ENTRY_COST < CONTROL_ROOM);

/// How long a record on `channel` is (PROTOCOL §9.3).
const fn record_lengths(channel: u8) -> RangeInclusive<usize> {
    if channel == CONTROL { 1..=8192 } else { 20..=65535 }
}

/// Which channels are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Channel 0.
    Control,
    /// Channels 1 to 127.
    User,
    /// All of them.
    All,
}

impl Scope {
    const fn has(self, channel: u8) -> bool {
        match self {
            Self::Control => channel == CONTROL,
            Self::User => channel != CONTROL,
            Self::All => true,
        }
    }
}

/// The record is not taken: too much waits already, or no such record can be sent on the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a frame, or the message in it, was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// The channel is none of the reliable ones.
    NotReliable,
    /// A number, a length or an acknowledgement field makes no sense.
    Malformed,
    /// It acknowledges what was never sent.
    NeverSent,
    /// The message was seen before.
    Duplicate,
    /// The message lies beyond what can be held.
    BeyondWindow,
    /// A record has an impossible length: the session has to end (PROTOCOL §9.3).
    RecordLength,
}

/// Both directions of one channel.
#[derive(Debug)]
struct Channel {
    sender: Sender,
    receiver: Receiver,
}

impl Channel {
    fn new(id: u8, first: u64) -> Box<Self> {
        Box::new(Self { sender: Sender::new(first), receiver: Receiver::new(id, first) })
    }
}

/// When the acknowledgements that are owed are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckDue {
    Never,
    At(Instant),
    Now,
}

/// All reliable channels of one session and their congestion controller. Channels come into being when they are first used.
#[derive(Debug)]
pub struct Channels {
    /// Boxed, for a tree has room for eleven, and most sessions have one.
    channels: BTreeMap<u8, Box<Channel>>,
    recovery: Recovery,
    /// Cost of the records that are kept to be sent, of users and of control.
    kept: usize,
    kept_control: usize,
    /// The user channel whose turn was last.
    turn: u8,
    /// When closed windows are probed, and how often they were in a row.
    window_probe: Option<Instant>,
    window_probes: u32,
    /// Complete records, and all that is held, these included.
    ready: VecDeque<(u8, Vec<u8>)>,
    held: usize,
    ack_due: AckDue,
    /// Messages since the last acknowledgement.
    arrivals: u8,
    /// Whether some channel may have told the other side to send nothing.
    closed: bool,
    /// The stream of a channel makes no sense any more.
    failed: bool,
    /// Messages sent again.
    repeated: u64,
}

impl Channels {
    /// The channels of a new session.
    pub fn new(now: Instant) -> Self {
        Self {
            channels: BTreeMap::new(),
            recovery: Recovery::new(now, Rtt::default()),
            kept: 0,
            kept_control: 0,
            turn: LAST_RELIABLE,
            window_probe: None,
            window_probes: 0,
            ready: VecDeque::new(),
            held: 0,
            ack_due: AckDue::Never,
            arrivals: 0,
            closed: false,
            failed: false,
            repeated: 0,
        }
    }

    /// Takes a control record of 1 to 8192 bytes, to be sent on channel 0.
    ///
    /// # Errors
    /// [`Full`] if more than 16 KiB would wait, or for another length.
    pub fn send_control(&mut self, now: Instant, record: &[u8]) -> Result<(), Full> {
        let cost = record_cost(record.len() + 2);
        if self.kept_control + cost > CONTROL_ROOM || !record_lengths(CONTROL).contains(&record.len()) {
            return Err(Full);
        }
        self.kept_control += cost;
        self.enqueue(now, CONTROL, record);
        Ok(())
    }

    /// Takes an IP packet of 20 to 65535 bytes, to be sent on a channel from 1 to 127.
    ///
    /// # Errors
    /// [`Full`] if more than 2 MiB would wait, or for another length or channel.
    pub fn send(&mut self, now: Instant, channel: u8, packet: &[u8]) -> Result<(), Full> {
        let cost = record_cost(packet.len() + 2);
        if channel == CONTROL || channel > LAST_RELIABLE || !record_lengths(channel).contains(&packet.len()) {
            return Err(Full);
        }
        if self.kept + cost > SEND_ROOM {
            return Err(Full);
        }
        self.kept += cost;
        self.enqueue(now, channel, packet);
        Ok(())
    }

    fn enqueue(&mut self, now: Instant, id: u8, record: &[u8]) {
        self.channels.entry(id).or_insert_with(|| Channel::new(id, 0)).sender.push(record);
        self.watch_window(now, id);
    }

    /// Takes a reliable_data frame, numbers as they stand on the wire. The frames of one packet are to be handed over before
    /// [`Channels::fill`] is called.
    ///
    /// # Errors
    /// The message was dropped, for counting; an acknowledgement in the same frame may have counted all the same. The session has to end after
    /// [`FrameFault::RecordLength`], and after that one alone.
    pub fn on_frame(
        &mut self,
        now: Instant,
        channel: u8,
        sequence: u32,
        ack: u32,
        data: &[u8],
    ) -> Result<(), FrameFault> {
        if channel > LAST_RELIABLE {
            return Err(FrameFault::NotReliable);
        }
        if self.failed {
            return Err(FrameFault::RecordLength);
        }
        let known = self.channels.entry(channel).or_insert_with(|| Channel::new(channel, 0));
        let Channel { sender, receiver } = &mut **known;
        // All of the frame is checked before any of it counts.
        let ack = number::read(ack, sender.first()).ok_or(FrameFault::Malformed)?;
        if sequence == 0 {
            let field = Acknowledgement::decode(data, ack).ok_or(FrameFault::Malformed)?;
            if field.ranges.last().map_or(ack, |(_, end)| *end) > sender.next() {
                return Err(FrameFault::NeverSent);
            }
            self.on_acknowledgement(now, channel, ack, Some(&field));
            return Ok(());
        }
        let number = number::read(sequence, receiver.expected()).ok_or(FrameFault::Malformed)?;
        if data.is_empty() || data.len() > MAX_MESSAGE {
            return Err(FrameFault::Malformed);
        }
        if ack > sender.next() {
            return Err(FrameFault::NeverSent);
        }
        self.on_acknowledgement(now, channel, ack, None);
        self.on_message(now, channel, number, data)
    }

    /// An acknowledgement whose numbers were checked; `field` is there if it is a frame of its own.
    fn on_acknowledgement(&mut self, now: Instant, id: u8, ack: u64, field: Option<&Acknowledgement>) {
        let Some(Channel { sender, .. }) = self.channels.get_mut(&id).map(Box::as_mut) else { return };
        let recovery = &mut self.recovery;
        let mut newest = None;
        sender.on_arrived(0, ack, |transmission| recovery.on_arrived(now, transmission, &mut newest));
        if let Some(field) = field {
            recovery.on_sign_of_life();
            sender.on_window(ack, field.window);
            for (first, end) in &field.ranges {
                sender.on_arrived(*first, *end, |transmission| recovery.on_arrived(now, transmission, &mut newest));
            }
        }
        let kept = if id == CONTROL { &mut self.kept_control } else { &mut self.kept };
        sender.release(ack, |length| *kept -= record_cost(length));
        if let Some(newest) = newest {
            recovery.on_acknowledged(now, newest, field.map(|field| field.delay));
        }
        self.watch_window(now, id);
    }

    /// A message whose number was read.
    fn on_message(&mut self, now: Instant, id: u8, number: u64, data: &[u8]) -> Result<(), FrameFault> {
        let room = self.room(id);
        let Some(Channel { receiver, .. }) = self.channels.get_mut(&id).map(Box::as_mut) else { return Ok(()) };
        let (held, complete) = (receiver.held(), self.ready.len());
        let accepted = receiver.accept(now, number, data, room, &mut self.ready);
        receiver.owes = true;
        self.held = self.held - held + receiver.held();
        self.held += self.ready.range(complete..).map(|(_, record)| record_cost(record.len())).sum::<usize>();
        self.arrivals = self.arrivals.saturating_add(1);
        match accepted {
            Ok(Arrival::InOrder) if self.arrivals < ARRIVALS_PER_ACK => {
                if self.ack_due == AckDue::Never {
                    self.ack_due = AckDue::At(now + MAX_ACK_DELAY);
                }
            }
            Ok(Arrival::InOrder | Arrival::Gap) | Err(_) => self.ack_due = AckDue::Now,
        }
        self.failed = accepted == Err(FrameFault::RecordLength);
        self.announce_windows();
        accepted.map(drop)
    }

    /// Hands out the next complete record and its channel.
    pub fn poll_record(&mut self) -> Option<(u8, Vec<u8>)> {
        let (channel, record) = self.ready.pop_front()?;
        self.held -= record_cost(record.len());
        send::relax(&mut self.ready);
        self.announce_windows();
        Some((channel, record))
    }

    /// What may still be held for a channel.
    fn room(&self, id: u8) -> Room {
        let bytes = RECEIVE_ROOM.saturating_sub(self.held);
        // Asked only when it matters: it is a walk over the channels.
        let scarce = bytes < 2 * (MAX_MESSAGE + ENTRY_COST);
        Room {
            bytes,
            first_of_all: scarce && (id == CONTROL || self.first_of_all() == Some(id)) && self.ready.is_empty(),
        }
    }

    /// The first user channel on which anything waits.
    fn first_of_all(&self) -> Option<u8> {
        self.channels.range(CONTROL + 1..).find(|(_, channel)| channel.receiver.held() > 0).map(|(id, _)| *id)
    }

    /// Makes an acknowledgement due on each channel whose window was closed and is not any more.
    fn announce_windows(&mut self) {
        if !self.closed {
            return;
        }
        let first = self.first_of_all();
        let bytes = RECEIVE_ROOM.saturating_sub(self.held);
        self.closed = false;
        for (id, channel) in self.channels.iter_mut().filter(|(_, channel)| channel.receiver.is_closed()) {
            let room = Room { bytes, first_of_all: (*id == CONTROL || first == Some(*id)) && self.ready.is_empty() };
            if room.window() > 0 {
                channel.receiver.owes = true;
                self.ack_due = AckDue::Now;
            }
            self.closed = true;
        }
    }

    /// Acts on all timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
        if self.acks_are_due(now) {
            self.ack_due = AckDue::Now;
        }
        for lost in self.recovery.handle_timeout(now) {
            self.on_lost(now, lost);
        }
        if self.window_probe.is_some_and(|at| at <= now) {
            for channel in self.channels.values_mut().filter(|channel| channel.sender.is_blocked()) {
                channel.sender.probe = true;
            }
            self.recovery.on_window_probe();
            self.window_probes = self.window_probes.saturating_add(1);
            self.window_probe = Some(now + self.recovery.timeout(self.window_probes));
        }
    }

    /// Packets take another path from now on, because nothing arrived on the old one: what is under way is sent again at once.
    pub fn on_new_path(&mut self, now: Instant) {
        self.settle(now);
        for lost in self.recovery.on_new_path(now) {
            self.on_lost(now, lost);
        }
    }

    /// When [`Channels::handle_timeout`] has something to do; `None` while nothing is outstanding. What is due already, see
    /// [`Channels::has_due`], is not a matter of time and not in here.
    pub fn deadline(&self) -> Option<Instant> {
        let ack = match self.ack_due {
            AckDue::At(at) => Some(at),
            AckDue::Never | AckDue::Now => None,
        };
        [ack, self.recovery.deadline(), self.window_probe].into_iter().flatten().min()
    }

    /// Sees to it that the timer for closed windows runs if and only if there are any, after something changed on channel `id`.
    fn watch_window(&mut self, now: Instant, id: u8) {
        if self.channels.get(&id).is_some_and(|channel| channel.sender.is_blocked()) {
            let timeout = self.recovery.timeout(0);
            self.window_probe.get_or_insert_with(|| now + timeout);
        } else if self.window_probe.is_some() && !self.channels.values().any(|channel| channel.sender.is_blocked()) {
            self.window_probe = None;
            self.window_probes = 0;
        }
    }

    /// The smoothed round trip; `None` before anything was measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.recovery.rtt()
    }

    /// Takes the round trip of the handshake for a first estimate.
    pub fn seed_rtt(&mut self, rtt: Duration) {
        self.recovery.seed_rtt(rtt);
    }

    /// Whether the timer expired 12 times in a row without any acknowledgement: the session is at its end (PROTOCOL §10).
    pub fn is_dead(&self) -> bool {
        self.recovery.is_dead()
    }

    /// How often the timer expired since the last acknowledgement.
    pub fn expiries(&self) -> u32 {
        self.recovery.expiries()
    }

    /// Bytes of user records that are kept until they are acknowledged, with their overhead.
    pub fn queued(&self) -> usize {
        self.kept
    }

    /// Messages that were sent again, for whatever reason.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Whether an IP packet is not wholly acknowledged yet.
    pub fn has_unacknowledged(&self) -> bool {
        self.kept > 0
    }

    /// The IP packets that were not wholly acknowledged, in order on each channel, to be sent on the next session (PROTOCOL §7). Control
    /// records belong to this session and go with it.
    pub fn into_unacknowledged(self) -> Vec<(u8, Vec<u8>)> {
        let users = self.channels.into_iter().filter(|(id, _)| *id != CONTROL);
        users.flat_map(|(id, channel)| channel.sender.into_unacknowledged().map(move |packet| (id, packet))).collect()
    }
}

/// What the books count for a record of `length` bytes.
const fn record_cost(length: usize) -> usize {
    length + ENTRY_COST
}
