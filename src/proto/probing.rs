//! `impl Node`: probes of the path leave, and so do the answers to those of the peer (PROTOCOL §8.5).

use std::time::Instant;

use super::bucket::{Bucket, Rate};
use super::event::Dropped;
use super::hop;
use super::mtu::Probe;
use super::node::Node;
use super::session::{Lane, SessionRef};
use crate::base::{PeerIndex, TxSink};
use crate::envelope::UNRELIABLE;
use crate::wire::data::{DATA_HEADER, DataWriter};
use crate::wire::frame::{Frame, PROBE_ANSWER_LEN};
use crate::wire::sealed::{HEADER, MAX_PLAINTEXT, TAG};

/// Probes of a peer that are answered. A round and its echo must fit the burst.
const ANSWERS: Rate = Rate { per_second: 20, burst: 20 };
/// Answers that may wait to be sent.
const MAX_WAITING: usize = 32;
/// Length of a datagram with one answer: a smaller probe is not answered, so that no answer is larger than what it answers.
const ANSWER: usize = HEADER + DATA_HEADER + PROBE_ANSWER_LEN + TAG;

// The bucket bounds what waits, and everything that waits fits one datagram that every path carries.
const _: () = assert!(ANSWERS.burst as usize <= MAX_WAITING);
const _: () = assert!(DATA_HEADER + MAX_WAITING * PROBE_ANSWER_LEN <= MAX_PLAINTEXT);

/// What a session owes the peer for its probes.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    bucket: Bucket,
    waiting: Vec<Probe>,
}

impl Answers {
    /// A probe came in a datagram of `size` bytes.
    pub(crate) fn on_probe(&mut self, now: Instant, number: u32, size: u16) -> Result<(), Dropped> {
        let size = usize::from(size);
        if size < ANSWER {
            return Err(Dropped::Ignored);
        }
        if self.waiting.len() >= MAX_WAITING || !self.bucket.take(now, ANSWERS) {
            return Err(Dropped::RateLimited);
        }
        self.waiting.push(Probe { number, size });
        Ok(())
    }

    /// Writes what is owed. True if there was anything.
    fn fill(&mut self, writer: &mut DataWriter<'_>) -> bool {
        for probe in std::mem::take(&mut self.waiting) {
            let size = u16::try_from(probe.size).unwrap_or(u16::MAX);
            // All that may wait has room.
            let _ = writer.push(&Frame::ProbeAnswer { channel: UNRELIABLE, number: probe.number, size });
        }
        writer.frames() > 0
    }
}

impl Node {
    /// The answers that every session of a peer owes, and the probes of the one that is sent on.
    pub(super) fn send_probes(&mut self, now: Instant, index: PeerIndex, tx: &mut impl TxSink) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let mut owing = Vec::new();
        for session in &peer.sessions {
            if !session.answers.waiting.is_empty() {
                owing.push(session.serial);
            }
        }
        for serial in owing {
            self.send_answers(now, SessionRef { peer: index, serial }, tx);
        }
        while let Some(probe) = self.peers.get_mut(index).and_then(|peer| peer.poll_probe(now)) {
            self.send_probe(now, index, probe, tx);
        }
    }

    fn send_answers(&mut self, now: Instant, at: SessionRef, tx: &mut impl TxSink) {
        let Some(session) = self.peers.get_mut(at.peer).and_then(|peer| peer.session_mut(at.serial)) else {
            return;
        };
        let mut writer = DataWriter::new(&mut self.scratch[HEADER..HEADER + MAX_PLAINTEXT]);
        if session.answers.fill(&mut writer) {
            let len = writer.finish();
            self.send_scratch(now, at, Lane::Control, len, None, tx);
        }
    }

    /// One data packet with one frame, and zeros up to the size that is probed.
    fn send_probe(&mut self, now: Instant, index: PeerIndex, probe: Probe, tx: &mut impl TxSink) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(session) = peer.sending() else {
            return;
        };
        let end = probe.size - TAG;
        let Some(plaintext) = self.scratch.get_mut(HEADER..end) else {
            debug_assert!(false, "a probe is no larger than the buffers of the node");
            return;
        };
        let mut writer = DataWriter::new(plaintext);
        // The smallest probe has room for its frame.
        let _ = writer.push(&Frame::Probe { channel: UNRELIABLE, number: probe.number });
        let written = writer.finish();
        plaintext[written..].fill(0);
        let len = plaintext.len();
        match session.seal_probe(now, &mut self.scratch, len) {
            Ok(total) => {
                let link = session.path.link();
                let datagram = &self.scratch[..total];
                if hop::is_relayed(link.remote) {
                    let datagram = datagram.to_vec();
                    peer.traffic.tx_datagrams += 1;
                    return self.emit(now, link, &datagram, tx);
                }
                tx.transmit(link, total, |slot| slot.copy_from_slice(datagram));
                peer.traffic.tx_datagrams += 1;
            }
            Err(reason) => peer.drops.count(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn probes_without_end_are_answered_twenty_a_second() {
        let start = crate::proto::tests::start();
        let mut answers = Answers::default();
        let mut answered = 0;
        for millisecond in 0..10_000u64 {
            let now = start + Duration::from_millis(millisecond);
            answered += u32::from(answers.on_probe(now, 1, 1472).is_ok());
            if millisecond % 50 == 0 {
                answers.waiting.clear();
            }
        }
        assert!((200..=220).contains(&answered), "{answered} in ten seconds");
    }

    #[test]
    fn an_answer_is_never_larger_than_what_it_answers() {
        let now = crate::proto::tests::start();
        let mut answers = Answers::default();
        assert_eq!(answers.on_probe(now, 1, ANSWER as u16 - 1), Err(Dropped::Ignored));
        assert_eq!(answers.on_probe(now, 1, ANSWER as u16), Ok(()));
        let mut buffer = [0; MAX_PLAINTEXT];
        let mut writer = DataWriter::new(&mut buffer);
        assert!(answers.fill(&mut writer));
        assert_eq!(HEADER + writer.finish() + TAG, ANSWER);
    }
}
