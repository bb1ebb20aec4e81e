//! Packets that wait for a session: bounded in number, bytes and time (PROTOCOL §13).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::Dropped;

const PACKETS: usize = 64;
const BYTES: usize = 128 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// First in, first out; the oldest makes room.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    packets: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Waiting {
    /// Keeps a packet and returns how many older ones made room for it.
    pub(crate) fn push(&mut self, now: Instant, packet: &[u8]) -> u64 {
        let mut dropped = 0;
        while self.packets.len() >= PACKETS || (self.bytes + packet.len() > BYTES && !self.packets.is_empty()) {
            self.pop();
            dropped += 1;
        }
        self.bytes += packet.len();
        self.packets.push_back((now, packet.to_vec()));
        dropped
    }

    /// The oldest packet.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        let (_, packet) = self.packets.pop_front()?;
        self.bytes -= packet.len();
        if self.packets.is_empty() {
            // An idle peer keeps no buffer.
            self.packets = VecDeque::new();
        }
        Some(packet)
    }

    /// Drops what has waited too long and returns how many packets that were.
    pub(crate) fn expire(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.packets.front().map(|&(since, _)| since + PATIENCE)
    }

    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// As many bytes of packets for reliable channels as a session itself may keep (PROTOCOL §10).
const BACKLOG: usize = 2 << 20;
/// What the books count for a packet besides its bytes.
const ENTRY_COST: usize = 64;

/// Packets for reliable channels, with their channel, in order. A full backlog takes no more: of what travels reliably, the beginning is worth as much as the end.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    packets: Vec<(u8, Vec<u8>)>,
    cost: usize,
}

impl Backlog {
    pub(crate) fn push(&mut self, channel: u8, packet: Vec<u8>) -> Result<(), Dropped> {
        let cost = self.cost + packet.len() + ENTRY_COST;
        if cost > BACKLOG {
            return Err(Dropped::ReliableFull);
        }
        self.cost = cost;
        self.packets.push((channel, packet));
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

impl IntoIterator for Backlog {
    type Item = (u8, Vec<u8>);
    type IntoIter = std::vec::IntoIter<(u8, Vec<u8>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.packets.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_nothing_waits_for_ever() {
        let now = crate::proto::tests::start();
        let mut waiting = Waiting::default();
        let dropped: u64 = (0..100u8).map(|i| waiting.push(now + Duration::from_millis(u64::from(i)), &[i; 100])).sum();
        assert_eq!((dropped, waiting.len()), (36, 64));
        assert_eq!(waiting.pop().unwrap(), vec![36; 100]);
        assert_eq!(waiting.expire(now + PATIENCE + Duration::from_millis(50)), 14, "37 to 50");
        assert_eq!(waiting.expire(now + PATIENCE * 2), 49);
        assert!(waiting.is_empty());
        assert_eq!(waiting.push(now, &[0; 65535]) + waiting.push(now, &[0; 65535]), 0);
        assert_eq!(waiting.push(now, &[0; 65535]), 1, "bytes are bounded, too");
    }
}
