//! What leaves, and in which order: acknowledgements, probes, then messages by turns.

use std::time::Instant;

use super::ack::{MAX_LENGTH, MIN_LENGTH};
use super::recovery::Transmission;
use super::send::Candidate;
use super::{AckDue, CONTROL, Channel, Channels, LAST_RELIABLE, MAX_MESSAGE, Scope, number};
use crate::wire::frame::RELIABLE_OVERHEAD;
use crate::wire::{DataWriter, Frame};

/// As what a message is transmitted.
#[derive(Clone, Copy, Debug)]
enum Occasion {
    /// The windows allow it.
    Turn,
    /// It repeats this transmission, before the timer.
    TailProbe(u64),
    /// It asks for the window.
    WindowProbe,
}

impl Channels {
    /// Whether [`Channels::fill`] may have something to write that should not wait. `false` is certain; `true` becomes so once `fill` was called
    /// since the last frame came, for acknowledgements are judged there.
    pub fn has_due(&self, now: Instant, scope: Scope) -> bool {
        self.recovery.is_unsettled()
            || (self.acks_are_due(now) && self.in_scope(scope).any(|(_, channel)| channel.receiver.owes))
            || self.has_transmission(scope)
    }

    /// Writes the frames that may leave now; returns whether there were any.
    ///
    /// To send all that is due, repeat it with a fresh packet until it returns `false`. Only a packet of full length, [`MAX_MESSAGE`] and
    /// its frame header, has room for any message.
    pub fn fill(&mut self, now: Instant, writer: &mut DataWriter<'_>, scope: Scope) -> bool {
        self.settle(now);
        let before = writer.frames();
        if self.acks_are_due(now) || self.has_transmission(scope) {
            self.write_acks(now, writer, scope);
        }
        let mut buffer = [0; MAX_MESSAGE];
        while let Some((id, candidate, occasion)) = self.next_transmission(scope) {
            if !self.transmit(now, writer, (id, candidate, occasion), &mut buffer) {
                break;
            }
        }
        writer.frames() > before
    }

    fn in_scope(&self, scope: Scope) -> impl Iterator<Item = (u8, &Channel)> {
        self.channels.iter().filter(move |(id, _)| scope.has(**id)).map(|(id, channel)| (*id, &**channel))
    }

    pub(super) fn acks_are_due(&self, now: Instant) -> bool {
        match self.ack_due {
            AckDue::Never => false,
            AckDue::At(at) => at <= now,
            AckDue::Now => true,
        }
    }

    fn has_transmission(&self, scope: Scope) -> bool {
        self.next_transmission(scope).is_some()
    }

    /// What is to be transmitted next.
    fn next_transmission(&self, scope: Scope) -> Option<(u8, Candidate, Occasion)> {
        if let Some((transmission, sent)) = self.recovery.tail(|id| scope.has(id)) {
            let candidate = self.channels.get(&sent.channel)?.sender.repetition(sent.number)?;
            return Some((sent.channel, candidate, Occasion::TailProbe(transmission)));
        }
        // The walks are short: as many steps as there are channels in use, mostly one or two.
        let probing = |(id, channel): (u8, &Channel)| channel.sender.window_probe().map(|candidate| (id, candidate));
        if let Some((id, candidate)) = self.in_scope(scope).find_map(probing) {
            return Some((id, candidate, Occasion::WindowProbe));
        }
        if !self.recovery.has_room() {
            return None;
        }
        let control = self.channels.range(..=CONTROL);
        let after = self.channels.range(self.turn + 1..);
        let until = self.channels.range(CONTROL + 1..=self.turn);
        let mut turns = control.chain(after).chain(until).filter(|(id, _)| scope.has(**id));
        turns.find_map(|(id, channel)| channel.sender.ready().map(|candidate| (*id, candidate, Occasion::Turn)))
    }

    /// Writes one message and notes that it leaves; `false` if it does not fit.
    fn transmit(
        &mut self,
        now: Instant,
        writer: &mut DataWriter<'_>,
        (id, candidate, occasion): (u8, Candidate, Occasion),
        buffer: &mut [u8; MAX_MESSAGE],
    ) -> bool {
        let Some(Channel { sender, receiver }) = self.channels.get_mut(&id).map(Box::as_mut) else { return false };
        let Some(room) = writer.room().checked_sub(RELIABLE_OVERHEAD) else { return false };
        let Some(length) = sender.read(candidate, room, buffer) else { return false };
        let frame = Frame::ReliableData {
            channel: id,
            sequence: number::write(candidate.number),
            ack: number::write(receiver.expected()),
            data: &buffer[..length],
        };
        if writer.push(&frame).is_err() {
            return false;
        }
        self.repeated += u64::from(candidate.is_repeated());
        let transmission = match occasion {
            Occasion::Turn => {
                self.turn = if id == CONTROL { self.turn } else { id };
                Some(self.recovery.on_transmit(now, id, candidate.number, candidate.is_repeated()))
            }
            Occasion::TailProbe(transmission) => self.recovery.on_tail_transmit(now, transmission),
            Occasion::WindowProbe => None,
        };
        sender.on_transmit(candidate, length, transmission);
        true
    }

    /// Writes the acknowledgements that are owed, as far as they fit.
    fn write_acks(&mut self, now: Instant, writer: &mut DataWriter<'_>, scope: Scope) {
        let owing: Vec<u8> =
            self.in_scope(scope).filter(|(_, channel)| channel.receiver.owes).map(|(id, _)| id).collect();
        for id in owing {
            let room = self.room(id);
            let Some(Channel { receiver, .. }) = self.channels.get_mut(&id).map(Box::as_mut) else { continue };
            let Some(space) = writer.room().checked_sub(RELIABLE_OVERHEAD).filter(|space| *space >= MIN_LENGTH) else {
                return;
            };
            let field = receiver.acknowledgement(now, room);
            let mut buffer = [0; MAX_LENGTH];
            let length = field.encode(&mut buffer[..space.min(MAX_LENGTH)]);
            let ack = number::write(receiver.expected());
            if writer.push(&Frame::ReliableData { channel: id, sequence: 0, ack, data: &buffer[..length] }).is_err() {
                return;
            }
            receiver.on_acknowledged(field.window);
            self.closed |= field.window == 0;
        }
        if !self.channels.values().any(|channel| channel.receiver.owes) {
            self.ack_due = AckDue::Never;
            self.arrivals = 0;
        }
    }

    /// Judges the acknowledgements that came.
    pub(super) fn settle(&mut self, now: Instant) {
        for lost in self.recovery.settle(now) {
            self.on_lost(now, lost);
        }
    }

    pub(super) fn on_lost(&mut self, now: Instant, lost: Transmission) {
        if let Some(channel) = self.channels.get_mut(&lost.channel) {
            channel.sender.on_lost(lost.number);
        }
        self.watch_window(now, lost.channel);
    }
}

const _: () = assert!(LAST_RELIABLE < u8::MAX, "the channel after the last turn has a number");
