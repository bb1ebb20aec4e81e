//! What a node remembers of a member with which it has, or wants, to do (PROTOCOL §12).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::frame::MeshFrame;
use super::relay::Pieces;
use super::seek::Seeking;
use super::spraying::Attempts;
use crate::base::{Link, PeerIndex};
use crate::proto::bucket::{Bucket, Rate};
use crate::proto::command::Step;
use crate::proto::hop;
use crate::proto::peer::Answered;
use crate::proto::session::Serial;
use crate::proto::waiting::{Backlog, Waiting};
use crate::wire::hello::HELLO_LEN;
use crate::wire::member::Source;

/// Frames that wait to be sent to one member; a member that asks for more is not answered.
const MAX_FRAMES: usize = 64;
/// Pings of the operator under way.
const MAX_ECHOES: usize = 8;
/// What is remembered for `why`.
const MAX_STEPS: usize = 32;
/// Addresses that introducers have named.
const MAX_ADDRESSES: usize = 8;
/// A nonce that was given out is accepted for ten minutes at least.
const NONCE_LIFE: Duration = Duration::from_secs(480);

/// How often one member is served: requests of an introducer's neighbour, introductions of an introducer, those that name one asker, questions.
pub(super) const REQUESTS: Rate = Rate { per_second: 10, burst: 20 };
pub(super) const INTRODUCTIONS: Rate = Rate { per_second: 10, burst: 20 };
pub(super) const ASKERS: Rate = Rate { per_second: 1, burst: 4 };
pub(super) const QUESTIONS: Rate = Rate { per_second: 10, burst: 40 };
/// Addresses that one member says it has, and that are new: each is pinged a few times, whosever it is.
pub(super) const NAMED: Rate = Rate { per_second: 2, burst: 48 };
/// Beyond that burst each costs so many datagrams of its own: it has no more sent to others than it sends itself (six pings of 64 bytes; the shortest datagram of a session has 32).
const DATAGRAMS_AN_ADDRESS: u64 = 12;
/// How often it may begin or cease to relay and to introduce: each change is work for all searches and sessions.
pub(super) const OFFERS: Rate = Rate { per_second: 1, burst: 4 };
/// How often it is greeted at once because it announced itself elsewhere.
pub(super) const NEWCOMERS: Rate = Rate { per_second: 1, burst: 2 };

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    /// Where the last confirmed session had it: greeted besides the configured addresses.
    pub(crate) last_endpoint: Option<SocketAddr>,
    /// On sessions that have ended.
    pub(crate) last_received: Option<Instant>,
    /// Names were asked for; not again before this.
    pub(crate) resolve_after: Option<Instant>,
    /// The attempts answered last, by their first answer, the newest first.
    pub(crate) answered: Vec<Answered>,
    pub(crate) waiting: Waiting,
    /// Packets for reliable channels: what ended sessions have not delivered, and what came when there was none.
    pub(crate) backlog: Backlog,
    /// Its nonce, and when it was heard of.
    nonce: Option<([u8; 16], Instant)>,
    /// It told us so.
    pub(super) introduces: bool,
    /// Where introducers see it.
    pub(super) addresses: Vec<SocketAddr>,
    /// Where introducers hear it, of each family: they say so apart from what it says itself.
    pub(super) heard_at: [Option<IpAddr>; 2],
    /// Where it says that it may be reached.
    pub(super) told: Vec<(SocketAddr, Source)>,
    /// Where it sees this node.
    pub(super) seen: Option<SocketAddr>,
    /// What it was told last of this node.
    pub(super) about: Option<(u8, [u8; 16], Vec<SocketAddr>)>,
    pub(super) candidates: Option<Vec<(SocketAddr, Source)>>,
    /// How much of its list of members is known, and when to ask again.
    pub(super) list: List,
    pub(crate) seeking: Option<Box<Seeking>>,
    pub(super) answering: Option<Box<Answering>>,
    /// The session that its last introduction made, and when.
    pub(super) introduced: Option<(Serial, Instant)>,
    /// Keys of its introductions that are remembered.
    pub(super) seen_keys: usize,
    /// Frames that wait to be sent to it.
    out: VecDeque<MeshFrame>,
    /// Pieces of relayed datagrams that it sent.
    pub(super) pieces: Pieces,
    /// Where it announced itself on the link.
    pub(crate) nearby: Vec<SocketAddr>,
    /// Hellos of it that are answered, and errors about the size of packets to it.
    pub(crate) hellos: Bucket,
    pub(crate) sizes_told: Bucket,
    pub(super) requests: Bucket,
    pub(super) introductions: Bucket,
    pub(super) asked_for: Bucket,
    pub(super) questions: Bucket,
    /// Changes of what it does for others.
    pub(super) offers: Bucket,
    named: Bucket,
    named_in_all: u64,
    pub(super) newcomers: Bucket,
    /// When this node asked it last to have somebody knock, when it asked this node, and how often it makes this node knock.
    pub(super) asked_to_knock: Option<Instant>,
    pub(super) knocked_for: Option<Instant>,
    pub(super) knocks: Bucket,
    /// How searches at random ports went.
    pub(super) spraying: Attempts,
    steps: VecDeque<(Instant, Step)>,
    /// Pings that the operator asked for.
    echoes: Vec<Echo>,
}

// Part of each session's memory; a search and an answer, which are short, stand in boxes.
const _: () = assert!(size_of::<Contact>() <= 864);

/// A ping for the operator.
#[derive(Clone, Copy, Debug)]
struct Echo {
    number: u32,
    cookie: [u8; 32],
    link: Link,
    asked_at: Instant,
    sent: bool,
}

/// The pull of one peers list.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) session: Option<Serial>,
    pub(super) version: u32,
    pub(super) next_at: Option<Instant>,
}

/// The answer to an introduction, until the asker is heard.
#[derive(Debug)]
pub(super) struct Answering {
    /// `X_1` and who brought it: first the one that is answered, then those of other introducers.
    pub(super) keys: Vec<([u8; 32], PeerIndex)>,
    pub(super) answer: [u8; HELLO_LEN],
    pub(super) token: [u8; 32],
    pub(super) serial: Serial,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) sent: usize,
    pub(super) next_at: Instant,
}

impl Contact {
    /// A session was confirmed: what was asked on an earlier one may not have arrived.
    pub(crate) fn on_confirmed(&mut self) {
        self.introduces = false;
        self.on_new_session();
    }

    /// A session has begun: the peer knows nothing of this node.
    pub(crate) fn on_new_session(&mut self) {
        (self.about, self.candidates) = (None, None);
    }

    /// A nonce of it that is worth signing.
    pub(super) fn nonce(&self, now: Instant) -> Option<[u8; 16]> {
        self.nonce.filter(|&(_, at)| now < at + NONCE_LIFE).map(|(nonce, _)| nonce)
    }

    /// The last nonce that it gave out itself, for those who ask.
    pub(crate) fn last_nonce(&self) -> [u8; 16] {
        self.nonce.map_or([0; 16], |(nonce, _)| nonce)
    }

    pub(super) fn on_nonce(&mut self, now: Instant, nonce: [u8; 16]) {
        if nonce != [0; 16] {
            self.nonce = Some((nonce, now));
        }
    }

    /// The nonce that is known is too old.
    pub(super) fn forget_nonce(&mut self) {
        self.nonce = None;
    }

    /// Whether this introducer is being asked where the member is.
    pub(super) fn has_asked(&self, introducer: PeerIndex) -> bool {
        self.seeking.as_ref().is_some_and(|seeking| seeking.has_asked(introducer))
    }

    /// An introducer hears it there.
    pub(super) fn on_heard_at(&mut self, address: SocketAddr) {
        if hop::is_public(address) {
            let [v4, v6] = &mut self.heard_at;
            *(if address.is_ipv4() { v4 } else { v6 }) = Some(address.ip());
        }
    }

    /// An introducer sees it there. The newest come first.
    pub(super) fn on_address(&mut self, address: SocketAddr) {
        // Pings go there: not to everybody on a link, and not to this host itself.
        if !(hop::is_public(address) || hop::is_near(address)) {
            return;
        }
        self.addresses.retain(|known| *known != address);
        self.addresses.insert(0, address);
        self.addresses.truncate(MAX_ADDRESSES);
    }

    /// Whether one more address that it names is pinged, after it has sent so many datagrams.
    pub(super) fn may_name(&mut self, now: Instant, received: u64) -> bool {
        let earned = u64::from(NAMED.burst) + received / DATAGRAMS_AN_ADDRESS;
        let may = self.named_in_all < earned && self.named.take(now, NAMED);
        self.named_in_all += u64::from(may);
        may
    }

    /// Queues a frame for it; false if too many wait.
    pub(super) fn send(&mut self, frame: MeshFrame) -> bool {
        let fits = self.out.len() < MAX_FRAMES;
        if fits {
            self.out.push_back(frame);
        }
        fits
    }

    pub(super) fn next_frame(&self) -> Option<&MeshFrame> {
        self.out.front()
    }

    pub(super) fn pop_frame(&mut self) -> Option<MeshFrame> {
        let frame = self.out.pop_front();
        if self.out.is_empty() {
            // A member to which nothing is said costs no buffer.
            self.out = VecDeque::new();
        }
        frame
    }

    /// Few are asked for at a time; of more, the oldest is forgotten.
    pub(crate) fn ask_echo(&mut self, now: Instant, number: u32, link: Link, cookie: [u8; 32]) {
        if self.echoes.len() == MAX_ECHOES {
            self.echoes.remove(0);
        }
        self.echoes.push(Echo { number, cookie, link, asked_at: now, sent: false });
    }

    pub(crate) fn poll_echo(&mut self) -> Option<([u8; 32], Link)> {
        let echo = self.echoes.iter_mut().find(|echo| !echo.sent)?;
        echo.sent = true;
        Some((echo.cookie, echo.link))
    }

    pub(crate) fn on_echo(&mut self, now: Instant, cookie: &[u8; 32]) -> Option<(u32, Duration)> {
        let position = self.echoes.iter().position(|echo| echo.cookie == *cookie)?;
        let echo = self.echoes.remove(position);
        Some((echo.number, now.saturating_duration_since(echo.asked_at)))
    }

    pub(crate) fn step(&mut self, now: Instant, step: Step) {
        // What repeats itself is worth one line.
        if let Some((at, last)) = self.steps.back_mut()
            && *last == step
        {
            *at = now;
            return;
        }
        if self.steps.len() == MAX_STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back((now, step));
    }

    /// Where introducers see it.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = (Instant, Step)> {
        self.steps.iter().copied()
    }

    /// When something of this is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let seeking = self.seeking.as_ref().map(|seeking| seeking.deadline());
        let answering = self.answering.as_ref().map(|answering| answering.next_at);
        [seeking, answering, self.list.next_at, self.pieces.deadline()].into_iter().flatten().min()
    }
}
