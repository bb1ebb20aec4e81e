//! Pings that callers of the control socket wait for.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::base::PeerIndex;
use crate::control::Response;

/// Open at the same time.
const MAX_OPEN: usize = 16;
/// A peer that has not answered by then does not.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OpenPings {
    /// The oldest first.
    open: Vec<OpenPing>,
    /// Callers choose their numbers without knowing of each other; the node is told this one.
    last: u32,
}

/// One ping, and who waits for it.
#[derive(Debug)]
pub(super) struct OpenPing {
    pub(super) peer: PeerIndex,
    /// The caller's.
    pub(super) number: u32,
    pub(super) answer: oneshot::Sender<Response>,
    /// The node's.
    own: u32,
    until: Instant,
}

impl OpenPings {
    /// Keeps a question. The number for the node, or the place for the answer back if too many are open.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        number: u32,
        answer: oneshot::Sender<Response>,
    ) -> Result<u32, oneshot::Sender<Response>> {
        self.open.retain(|ping| !ping.answer.is_closed());
        if self.open.len() >= MAX_OPEN {
            return Err(answer);
        }
        self.last = self.last.wrapping_add(1);
        self.open.push(OpenPing { peer, number, answer, own: self.last, until: now + PATIENCE });
        Ok(self.last)
    }

    /// The question that the answer of a peer belongs to.
    pub(super) fn take(&mut self, peer: PeerIndex, own: u32) -> Option<OpenPing> {
        let place = self.open.iter().position(|ping| ping.peer == peer && ping.own == own)?;
        Some(self.open.remove(place))
    }

    /// One that has waited long enough.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<OpenPing> {
        let place = self.open.iter().position(|ping| ping.until <= now)?;
        Some(self.open.remove(place))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.iter().map(|ping| ping.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tests::start;

    const PEER: PeerIndex = PeerIndex(3);

    #[test]
    fn an_answer_finds_its_caller_among_several_that_chose_the_same_number() {
        let (now, mut pings) = (start(), OpenPings::default());
        let (callers, numbers): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| oneshot::channel())
            .map(|(sender, receiver)| (receiver, pings.begin(now, PEER, 1, sender).unwrap()))
            .unzip();
        assert!(pings.take(PeerIndex(4), numbers[1]).is_none(), "of another peer");
        let taken = pings.take(PEER, numbers[1]).unwrap();
        assert_eq!((taken.peer, taken.number), (PEER, 1));
        assert!(pings.take(PEER, numbers[1]).is_none(), "answered once");
        drop(taken);
        let closed: Vec<bool> = callers.into_iter().map(|mut caller| caller.try_recv().is_err_and(is_closed)).collect();
        assert_eq!(closed, [false, true, false]);
    }

    fn is_closed(error: oneshot::error::TryRecvError) -> bool {
        error == oneshot::error::TryRecvError::Closed
    }

    #[test]
    fn who_waits_too_long_is_told_after_two_seconds() {
        let (now, mut pings) = (start(), OpenPings::default());
        assert_eq!(pings.deadline(), None);
        let (first, _first) = oneshot::channel();
        let (second, _second) = oneshot::channel();
        pings.begin(now, PEER, 7, first).unwrap();
        pings.begin(now + Duration::from_secs(1), PEER, 8, second).unwrap();
        assert_eq!(pings.deadline(), Some(now + PATIENCE));
        assert!(pings.take_overdue(now + PATIENCE - Duration::from_millis(1)).is_none());
        assert_eq!(pings.take_overdue(now + PATIENCE).map(|ping| ping.number), Some(7));
        assert!(pings.take_overdue(now + PATIENCE).is_none());
        assert_eq!(pings.deadline(), Some(now + Duration::from_secs(3)));
    }

    #[test]
    fn one_too_many_is_refused_and_callers_that_left_make_room() {
        let (now, mut pings) = (start(), OpenPings::default());
        let mut callers = Vec::new();
        for number in 0..MAX_OPEN {
            let (sender, receiver) = oneshot::channel();
            pings.begin(now, PEER, number as u32, sender).unwrap();
            callers.push(receiver);
        }
        assert!(pings.begin(now, PEER, 99, oneshot::channel().0).is_err());
        callers.pop();
        let (sender, _receiver) = oneshot::channel();
        assert!(pings.begin(now, PEER, 99, sender).is_ok());
    }
}
