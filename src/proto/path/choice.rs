//! Doubt about the path in use, and the choice of another (PROTOCOL §8.7).

use std::time::{Duration, Instant};

use super::candidate::{Candidate, is_better};
use super::{GRACE, Moved, Paths, upkeep_of};

const MAX_GRACE: Duration = Duration::from_millis(600);
/// In doubt for so long without any answer, the session is lost.
const LOST: Duration = Duration::from_secs(1);
/// After a doubt that was unfounded, the next one waits this long: traffic one way is doubtful all the time.
pub(super) const REST: Duration = Duration::from_millis(700);

impl Paths {
    /// Something is wrong with the primary, perhaps.
    pub(crate) fn on_doubt(&mut self, now: Instant) {
        if self.doubt.is_some() || self.rested_until.is_some_and(|until| now < until) {
            return;
        }
        self.doubt = Some(now);
        for (position, known) in self.candidates.iter_mut().enumerate() {
            if position == 0 || known.proven {
                known.next_at = Some(now);
            }
        }
    }

    /// When packets that are unanswered since `since` put the primary in doubt; `None` if it is already.
    pub(crate) fn doubt_at(&self, since: Instant, patience: Duration) -> Option<Instant> {
        let at = since + patience;
        self.doubt.is_none().then(|| self.rested_until.map_or(at, |rested| at.max(rested)))
    }

    /// When all addresses have been asked in vain for a second, if none answers before.
    pub(crate) fn lost_at(&self) -> Option<Instant> {
        let since = self.doubt?;
        let answered = self.candidates.iter().any(|known| known.answered_since(since));
        (!answered).then_some(since + LOST)
    }

    /// Decides whether traffic stays where it is.
    pub(super) fn choose(&mut self, now: Instant) -> Option<Moved> {
        let primary = self.candidates.first()?;
        let fresh = |known: &Candidate| known.proven && known.unanswered == 0 && known.answered.is_some();
        if let Some(better) = self.best(|known| fresh(known) && is_better(known, primary)) {
            return self.promote(now, better, false);
        }
        let since = self.doubt?;
        if primary.answered_since(since) {
            self.doubt = None;
            self.rested_until = Some(now + REST);
            for (position, known) in self.candidates.iter_mut().enumerate().filter(|(_, known)| known.proven) {
                known.next_at = upkeep_of(self.upkeep, position).map(|wait| now + wait);
            }
            return None;
        }
        if now < since + self.grace() {
            return None;
        }
        let other = self.best(|known| known.proven && known.answered_since(since))?;
        self.promote(now, other, true)
    }

    /// The best of those besides the primary.
    fn best(&self, eligible: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let mut best: Option<(usize, &Candidate)> = None;
        for (position, known) in self.candidates.iter().enumerate().skip(1).filter(|(_, known)| eligible(known)) {
            if best.is_none_or(|(_, so_far)| is_better(known, so_far)) {
                best = Some((position, known));
            }
        }
        best.map(|(position, _)| position)
    }

    fn promote(&mut self, now: Instant, position: usize, died: bool) -> Option<Moved> {
        let from = self.remote();
        let chosen = self.candidates.remove(position);
        self.candidates.insert(0, chosen);
        self.doubt = None;
        self.rested_until = Some(now + GRACE * 3);
        for (position, known) in self.candidates.iter_mut().enumerate().filter(|(_, known)| known.proven) {
            known.next_at = upkeep_of(self.upkeep, position).map(|wait| now + wait);
        }
        if died && let Some(old) = self.candidates.get_mut(1) {
            old.on_died(now + LOST);
        }
        Some(Moved { from, to: self.remote(), died })
    }

    /// How long a primary in doubt may be silent before another one replaces it.
    pub(super) fn grace(&self) -> Duration {
        let since = self.doubt;
        let answered = |known: &&Candidate| since.is_some_and(|since| known.answered_since(since));
        let others = self.candidates.iter().skip(1).filter(answered).filter_map(|known| known.rtt);
        // What nobody has measured is thought to be as far as the others.
        let rtt = self.candidates.first().and_then(|primary| primary.rtt).or_else(|| others.max());
        (rtt.unwrap_or_default() * 2).clamp(GRACE, MAX_GRACE)
    }

    pub(super) fn has_alternative(&self) -> bool {
        let Some(since) = self.doubt else { return false };
        self.candidates.iter().skip(1).any(|known| known.proven && known.answered_since(since))
    }
}
