//! What a peer is as a member of the mesh: kept, known by others, relaying, sought (PROTOCOL §12).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Holding, Peer, hold};
use crate::base::{Link, PeerIndex, Rng};
use crate::proto::capacity::Capacity;
use crate::proto::handshake::initiator::Initiator;
use crate::proto::hop;
use crate::proto::mesh::Contact;
use crate::proto::session::Session;

/// A standing peer that does not answer is left alone for so long, and twice as long each time.
const AWAY: Duration = Duration::from_secs(30);
const MAX_AWAY: Duration = Duration::from_secs(900);
/// Who has no introducer at all can be found by nobody.
const MAX_ALONE: Duration = Duration::from_secs(60);
/// Addresses at which a peer has announced itself: one host has some for each version of IP.
const NEARBY: usize = 4;

/// The peer among others (PROTOCOL §12).
impl Peer {
    /// What is known of it, if anything is.
    pub(crate) fn contact_mut(&mut self) -> Option<&mut Contact> {
        self.contact.as_deref_mut()
    }

    /// What is known of it; from now on there is something.
    pub(crate) fn contact(&mut self) -> &mut Contact {
        self.contact.get_or_insert_default()
    }

    /// The session that is sent on, if the peer has lists, introductions and relays.
    pub(crate) fn mesh_session(&mut self) -> Option<&mut Session> {
        let active = self.active?;
        self.session_mut(active).filter(|session| session.is_confirmed() && session.takes_mesh())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.active.is_some()
    }

    /// There is a session, and it works: there is nothing to search for.
    pub(crate) fn is_reached(&self) -> bool {
        self.stopped || self.carries_user_data() && self.lost_at().is_none() && self.search_at.is_none()
    }

    /// Packets wait for it, or have gone to it or come from it: a session that is only held needs no second way.
    pub(crate) fn is_talked_to(&self) -> bool {
        let used = |session: &Session| session.activity.user().is_some();
        self.has_waiting() || self.sessions.iter().any(used)
    }

    /// Sealed datagrams of it that were opened, in the life of this process.
    pub(crate) fn received(&self) -> u64 {
        let mut traffic = self.traffic;
        if let Some(counters) = &self.counters {
            counters.add_to(&mut traffic);
        }
        traffic.rx_datagrams
    }

    /// A session that this node initiated waits for the peer to confirm it.
    pub(crate) fn has_pending(&self) -> bool {
        self.sessions.iter().any(Session::is_pending)
    }

    pub(crate) fn is_greeting(&self) -> bool {
        self.attempt.is_some()
    }

    pub(crate) fn is_seeking(&self) -> bool {
        self.contact.as_ref().is_some_and(|contact| contact.seeking.is_some())
    }

    /// The newest session, confirmed or not.
    pub(crate) fn newest_session(&mut self) -> Option<&mut Session> {
        self.sessions.last_mut()
    }

    pub(crate) fn has_endpoints(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// The configuration wants a session with it at all times.
    pub(crate) fn is_kept(&self) -> bool {
        self.keepalive.is_some()
    }

    pub(crate) fn is_standing(&self) -> bool {
        self.standing
    }

    /// True if that is news.
    pub(crate) fn set_standing(&mut self, standing: bool) -> bool {
        std::mem::replace(&mut self.standing, standing) != standing
    }

    pub(crate) fn is_relay(&self) -> bool {
        self.relays.is_some()
    }

    /// Whether relays are ways to it: it is talked to. Those that introduce are reached directly, or not at all.
    pub(crate) fn takes_relays(&self) -> bool {
        !self.standing && !self.is_relay() && self.is_talked_to()
    }

    /// What it gives each member for which it relays.
    pub(crate) fn relay_capacity(&self) -> Option<Capacity> {
        self.relays
    }

    pub(crate) fn set_relay(&mut self, relays: Option<Capacity>) {
        self.relays = relays;
    }

    /// Something of this node is new to it.
    pub(crate) fn set_untold(&mut self) {
        self.untold = true;
    }

    pub(crate) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// It does not seem to know what it was told.
    pub(crate) fn forget_told(&mut self) {
        self.contact().on_new_session();
        self.untold = true;
    }

    /// Paths are pinged in another rhythm from now on.
    pub(crate) fn on_holding_changed(&mut self, now: Instant, holding: Holding) {
        let (active, standing, configured) = (self.active, self.standing, self.keepalive);
        for session in &mut self.sessions {
            let hold = hold(active == Some(session.serial), standing, configured, Some(holding));
            session.on_hold_changed(now, hold);
        }
    }

    /// Nothing but what holds its sessions open is said to it.
    pub(crate) fn is_at_rest(&self, now: Instant) -> bool {
        let rests = |session: &Session| session.is_confirmed() && session.has_cooled(now);
        self.attempt.is_none() && !self.is_seeking() && !self.has_waiting() && self.sessions.iter().all(rests)
    }

    /// When anything was sent on a session that is still there.
    pub(crate) fn spoken_to_at(&self) -> Option<Instant> {
        self.sessions.iter().map(|session| session.activity.sent()).max()
    }

    /// Something was sent to it, or tried, in the life of this process.
    pub(crate) fn is_contacted(&self) -> bool {
        let tried = self.contact.as_ref().is_some_and(|contact| contact.steps().next().is_some());
        tried || self.attempt.is_some() || !self.sessions.is_empty()
    }

    /// Whether something may have been sent to this address because it might be there.
    pub(crate) fn was_sought_at(&self, ip: IpAddr) -> bool {
        let is_there = |address: &SocketAddr| address.ip() == ip;
        let named = self.contact.as_ref().is_some_and(|contact| contact.addresses().iter().any(is_there));
        let leads = self.sessions.iter().any(|session| session.path.leads_to(ip));
        self.is_contacted() && (named || leads || self.greetable().iter().any(is_there))
    }

    /// Where it announced itself. True if that is news.
    pub(crate) fn set_nearby(&mut self, address: SocketAddr) -> bool {
        let nearby = &mut self.contact().nearby;
        if nearby.contains(&address) {
            return false;
        }
        nearby.insert(0, address);
        nearby.truncate(NEARBY);
        true
    }

    /// There is one more address to greet: at once, if it is being greeted or wanted.
    pub(crate) fn on_new_address(&mut self, now: Instant, rng: &mut Rng) {
        if let Some(attempt) = &mut self.attempt {
            attempt.on_new_endpoints(now);
        } else if self.is_seeking() && !self.stopped && !self.sessions.iter().any(Session::is_pending) {
            self.attempt = Some(Box::new(Initiator::new(now, rng)));
        }
    }

    /// An introducer says whether it has a session with it.
    pub(crate) fn on_known_by(&mut self, introducer: PeerIndex, known: bool) {
        let mut list: Vec<PeerIndex> = self.known_by.into_iter().flatten().filter(|by| *by != introducer).collect();
        if known {
            list.insert(0, introducer);
        }
        let mut list = list.into_iter();
        self.known_by = std::array::from_fn(|_| list.next());
    }

    /// The introducers that say they have a session with it.
    pub(crate) fn known_by(&self) -> Vec<PeerIndex> {
        self.known_by.into_iter().flatten().collect()
    }

    /// Until when a standing peer is left alone.
    pub(crate) fn away_until(&self) -> Option<Instant> {
        self.away_until
    }

    pub(crate) fn forget_away(&mut self) {
        (self.away_until, self.times_away) = (None, 0);
    }

    /// Nobody and nothing has led to it. A search and the greetings beside it fail for one reason, and count once.
    pub(crate) fn on_not_found(&mut self, now: Instant, alone: bool) {
        if self.is_away(now) {
            return;
        }
        let limit = if alone { MAX_ALONE } else { MAX_AWAY };
        let wait = AWAY.saturating_mul(1 << self.times_away.min(8)).min(limit);
        self.times_away = self.times_away.saturating_add(1);
        self.away_until = Some(now + wait);
    }

    /// It was not found, and is left alone for a while.
    pub(crate) fn is_away(&self, now: Instant) -> bool {
        self.away_until.is_some_and(|until| now < until)
    }

    /// The relay through which packets go that nothing answers any more.
    pub(crate) fn silent_relay(&self, now: Instant) -> Option<PeerIndex> {
        let lost = self.lost_at().is_some_and(|at| now >= at);
        let session = self.session(self.active?).filter(|_| lost)?;
        hop::through(session.path.remote()).map(|(relay, _)| relay)
    }

    /// The operator wants to know how long a ping takes.
    pub(crate) fn ask_echo(&mut self, now: Instant, number: u32, rng: &mut Rng) {
        let Some(link) = self.active.and_then(|active| self.session(active)).map(|session| session.path.link()) else {
            return;
        };
        self.contact().ask_echo(now, number, link, rng.bytes());
    }

    /// A ping that the operator wants and that has not left.
    pub(crate) fn poll_echo(&mut self) -> Option<([u8; 32], Link)> {
        self.contact_mut()?.poll_echo()
    }

    /// The answer to one of them: its number, and how long it took.
    pub(crate) fn on_echo(&mut self, now: Instant, cookie: &[u8; 32]) -> Option<(u32, Duration)> {
        self.contact_mut()?.on_echo(now, cookie)
    }

    /// What others are told of it when it changes: that it can be introduced, and whether it relays. Nobody can be introduced before it has said its nonce, or through another relay. Where it
    /// is, is told to those who ask for it: routers move members all the time, and what each of them tells to each other grows with the square of their number.
    pub(crate) fn listing(&mut self) -> Option<bool> {
        let has_nonce = self.contact_mut().is_some_and(|contact| contact.last_nonce() != [0; 16]);
        let is_direct = self.mesh_session().is_some_and(|session| !session.path.is_relayed());
        (has_nonce && is_direct).then(|| self.is_relay())
    }
}
