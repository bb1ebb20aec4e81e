//! The loop: everything that comes in is taken in rounds of bounded work, so that nothing waits long for anything else.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::DaemonError;
use super::clock::{Clock, Standstill};
use super::endpoints::Endpoints;
use super::notify::Watchdog;
use super::pings::OpenPings;
use super::surroundings::Surroundings;
use crate::base::PeerIndex;
use crate::config::Config;
use crate::control::{Request, Response};
use crate::dataplane::{DataThread, Mail, Notice, Shared};
use crate::io::alarm::Alarm;
use crate::io::resolve::{Answer, Resolver};
use crate::io::tun::TunWriter;
use crate::io::udp::{Outlets, Sender};
use crate::proto::{Command, Event, Node, OpenedElsewhere};

/// Calls of [`Node::poll_transmit`] in one round.
const TRANSMIT_BURST: usize = 256;

/// How long leaving may wait for room in the kernel.
const FAREWELL: Duration = Duration::from_millis(300);

/// When the kernel had no room for datagrams, it is asked again after this long.
const ROOM: Duration = Duration::from_millis(1);

/// A question from the control socket, and where its answer goes.
pub(super) type Question = (Request, oneshot::Sender<Response>);

/// The edges that the loop drives.
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) tun: TunWriter,
    pub(super) sender: Sender,
    /// What comes on them is this thread's.
    pub(super) outlets: Outlets,
    pub(super) shared: Arc<Shared>,
    /// Stopped and waited for when the engine is dropped.
    pub(super) threads: Vec<DataThread>,
    pub(super) resolver: Resolver,
    pub(super) endpoints: Endpoints,
    pub(super) surroundings: Surroundings,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) stop: StopSignals,
}

/// The core, the edges, and what keeps them going.
#[derive(Debug)]
pub(super) struct Engine<'a> {
    pub(super) config: &'a Config,
    pub(super) clock: Clock,
    pub(super) node: Node,
    pub(super) edges: Edges,
    /// Questions of the control socket that wait for a peer.
    pub(super) pings: OpenPings,
    alarm: Alarm,
    /// What the alarm is set to.
    armed: Option<Instant>,
    standstill: Standstill,
    watchdog: Watchdog,
    /// How often each data thread had come round when the watchdog was fed last.
    rounds: Vec<u64>,
}

/// What ended a wait and is in hand already. Packets and timers are looked for in every round.
#[derive(Debug, Default)]
struct Woken {
    stop: bool,
    question: Option<Question>,
    answer: Option<Answer>,
    commands: Vec<Command>,
    /// By how much the alarm came too late.
    late: Duration,
}

impl<'a> Engine<'a> {
    pub(super) fn new(config: &'a Config, clock: Clock, alarm: Alarm, node: Node, edges: Edges) -> Self {
        Self {
            config,
            clock,
            node,
            edges,
            pings: OpenPings::default(),
            alarm,
            armed: None,
            standstill: Standstill::watch(),
            watchdog: Watchdog::start(clock.now()),
            rounds: Vec::new(),
        }
    }

    /// Carries packets until a signal says stop.
    ///
    /// # Errors
    /// When the interface is gone, or the system has failed otherwise.
    pub(super) async fn run(&mut self) -> Result<(), DaemonError> {
        let mut more = false;
        loop {
            self.set_alarm()?;
            let woken = poll_fn(|cx| self.poll_woken(cx, more)).await?;
            if woken.stop {
                return Ok(());
            }
            more = self.round(woken)?;
            if more {
                // There is more at hand. The runtime must look after its other tasks and descriptors all the same.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Says goodbye to the peers.
    pub(super) async fn leave(&mut self) {
        let now = self.clock.now();
        self.node.handle_command(now, Command::Shutdown);
        while self.node.poll_transmit(now, &mut self.edges.sender) {}
        self.edges.sender.flush();
        let mut patience = FAREWELL;
        // Who does not hear it will notice.
        while self.edges.sender.is_blocked() && !patience.is_zero() {
            tokio::time::sleep(ROOM).await;
            patience = patience.saturating_sub(ROOM);
            self.edges.sender.flush();
        }
        self.edges.surroundings.leave().await;
    }

    /// Sees to it that the loop wakes for the next deadline. An alarm that comes too early is harmless, and cheaper than one that is set for every packet.
    fn set_alarm(&mut self) -> Result<(), DaemonError> {
        let now = self.clock.now();
        let room = self.edges.sender.is_blocked().then(|| now + ROOM);
        let deadlines = [self.node.poll_timeout(), self.watchdog.deadline(), self.pings.deadline(), room];
        // What is overdue is due now: only the alarm itself can be late.
        let deadline = deadlines.into_iter().flatten().min().map(|deadline| deadline.max(now));
        if let Some(deadline) = deadline.filter(|deadline| self.armed.is_none_or(|armed| *deadline < armed)) {
            self.alarm.set(deadline.saturating_duration_since(now))?;
            self.armed = Some(deadline);
        }
        Ok(())
    }

    /// Asks everything that can end the wait; if there is `more` at hand, there is none.
    fn poll_woken(&mut self, cx: &mut Context<'_>, more: bool) -> Poll<Result<Woken, DaemonError>> {
        let edges = &mut self.edges;
        let mut woken = Woken::default();
        let mut any = more;
        if edges.stop.poll(cx).is_ready() {
            woken.stop = true;
            any = true;
        }
        if let Poll::Ready(expired) = self.alarm.poll_expired(cx) {
            expired?;
            let armed = self.armed.take();
            woken.late = armed.map_or(Duration::ZERO, |armed| self.clock.now().saturating_duration_since(armed));
            any = true;
        }
        any |= edges.shared.mailbox.poll_ready(cx).is_ready();
        any |= edges.outlets.poll_ready(cx).is_ready();
        if let Poll::Ready(Some(question)) = edges.questions.poll_recv(cx) {
            woken.question = Some(question);
            any = true;
        }
        if let Poll::Ready(answer) = edges.resolver.poll_answer(cx) {
            woken.answer = Some(answer);
            any = true;
        }
        if let Poll::Ready(commands) = edges.surroundings.poll_commands(cx) {
            woken.commands = commands;
            any = true;
        }
        if any { Poll::Ready(Ok(woken)) } else { Poll::Pending }
    }

    /// One round of work; whether there may be more at once, as when a question has made the node want to send.
    fn round(&mut self, woken: Woken) -> Result<bool, DaemonError> {
        let now = self.clock.now();
        if self.standstill.has_been(woken.late) {
            tracing::info!("the host has slept");
            self.edges.surroundings.on_moved();
            self.node.handle_command(now, Command::NetworkChanged);
        }
        for command in woken.commands {
            self.node.handle_command(now, command);
        }
        let mail = self.edges.shared.mailbox.take();
        self.handle_mail(now, mail)?;
        self.take_from_outlets(now);
        if self.node.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.node.handle_timeout(now);
        }
        if let Some(answer) = woken.answer {
            let peer = answer.peer;
            if let Some(endpoints) = self.edges.endpoints.learn(answer) {
                self.node.handle_command(now, Command::SetEndpoints { peer, endpoints });
            }
        }
        let mut transmits = 0;
        while transmits < TRANSMIT_BURST && self.node.poll_transmit(now, &mut self.edges.sender) {
            transmits += 1;
        }
        self.edges.sender.flush();
        self.tell_refusals(now);
        // What was sent by the node itself comes before what the data threads may send from now on.
        while let Some((peer, published)) = self.node.poll_published() {
            self.edges.shared.table.publish(peer, published);
        }
        while let Some(event) = self.node.poll_event() {
            self.on_event(event);
        }
        self.give_up_pings(now);
        let asked = woken.question.is_some_and(|question| self.handle_question(now, question));
        if self.watchdog.is_due(now) {
            let well = self.data_threads_live();
            self.watchdog.feed(now, well);
        }
        Ok(asked || transmits == TRANSMIT_BURST)
    }

    /// Tells the core what the interface is too small for (PROTOCOL §8.5).
    fn tell_refusals(&mut self, now: Instant) {
        while let Some((remote, len)) = self.edges.sender.take_too_big() {
            self.node.handle_command(now, Command::TooBig { remote, len });
        }
    }

    /// What the data threads left: what peers said comes before what strangers want, and before packets that need a session first.
    fn handle_mail(&mut self, now: Instant, mail: Mail) -> Result<(), DaemonError> {
        for notice in mail.notices {
            match notice {
                Notice::TooBig(remote, len) => self.node.handle_command(now, Command::TooBig { remote, len }),
                Notice::Failed(error) => return Err(DaemonError::worker(self.config, error)),
            }
        }
        let Edges { tun, sender, .. } = &mut self.edges;
        mail.awake.into_iter().for_each(|peer| self.node.handle_awake(now, peer));
        for mail in mail.opened {
            let from = OpenedElsewhere {
                peer: mail.peer,
                session: mail.session,
                link: mail.link,
                highest: mail.highest,
                len: mail.len,
            };
            self.node.handle_opened(now, from, &mail.plaintext, sender, tun);
        }
        for mut mail in mail.strangers {
            if let Err(reason) = self.node.handle_datagram(now, mail.link, &mut mail.datagram, sender, tun) {
                tracing::trace!(reason = reason.label(), from = %mail.link.remote, "a datagram was dropped");
            }
        }
        for packet in mail.packets {
            if let Err(reason) = self.node.handle_tun(now, &packet, sender, tun) {
                tracing::trace!(reason = reason.label(), "a packet of the interface was dropped");
            }
        }
        self.node.flush(now, sender);
        Ok(())
    }

    /// What came on extra sockets: pings that look for a way, and whatever travels where one was found (PROTOCOL §12.8).
    fn take_from_outlets(&mut self, now: Instant) {
        let Edges { tun, sender, outlets, .. } = &mut self.edges;
        outlets.receive(|link, datagram| {
            if let Err(reason) = self.node.handle_datagram(now, link, datagram, sender, tun) {
                tracing::trace!(reason = reason.label(), from = %link.remote, "a datagram was dropped");
            }
        });
    }

    /// Whether every data thread has come round since the watchdog was fed last; all are woken, so that an idle one has reason to.
    fn data_threads_live(&mut self) -> bool {
        let rounds: Vec<u64> = self.edges.threads.iter().map(DataThread::probe).collect();
        let live = rounds.iter().zip(&self.rounds).all(|(now, before)| now > before);
        self.rounds = rounds;
        live
    }

    fn on_event(&mut self, event: Event) {
        // The name that the operator gave the peer; addresses are for DEBUG.
        let name = |peer: PeerIndex| self.config.peers.get(peer.slot()).map_or("", |peer| &peer.name[..]);
        match event {
            Event::Resolve { peer } => self.edges.resolver.resolve(peer),
            Event::Connected { peer } => tracing::info!(peer = name(peer), "connected"),
            Event::Disconnected { peer, reason } => {
                tracing::info!(peer = name(peer), reason = reason.reason(), "disconnected");
            }
            Event::Moved { peer } => tracing::debug!(peer = name(peer), "traffic takes another path"),
            Event::Announce { datagram } => self.edges.surroundings.announce(&datagram, &mut self.edges.sender),
            Event::OpenSockets { first, count } => self.open_outlets(first..first.saturating_add(count)),
            Event::CloseSockets { first, count } => {
                let Edges { outlets, sender, .. } = &mut self.edges;
                outlets.close(first..first.saturating_add(count), sender);
                tracing::debug!(open = outlets.len(), "extra sockets were closed");
            }
            Event::Unreachable { peer } => tracing::info!(peer = name(peer), "the peer does not answer"),
            Event::Pong { peer, number, rtt, hop } => self.on_pong(peer, number, rtt, hop),
        }
    }
}

impl Engine<'_> {
    fn open_outlets(&mut self, numbers: Range<u16>) {
        let Edges { outlets, sender, .. } = &mut self.edges;
        let result = outlets.open(numbers, sender);
        tracing::debug!(open = outlets.len(), "extra sockets were opened");
        if let Err(error) = result {
            // With fewer, the way is found less often.
            tracing::warn!(%error, open = outlets.len(), "not all extra sockets could be opened");
        }
    }
}

/// The signals that end the daemon in good order.
#[derive(Debug)]
pub(super) struct StopSignals([Signal; 3]);

impl StopSignals {
    /// From here on these signals no longer kill the process. A terminal that is closed must not leave rules behind either.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?]))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // All are asked, so that all wake the task.
        let mut ready = Poll::Pending;
        for signal in &mut self.0 {
            if signal.poll_recv(cx).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::base::{OuterDscp, Rng, SharedDrops, TrafficClass};
    use crate::config::key::format_public;
    use crate::control::Command as ControlCommand;
    use crate::crypto::keys::IdentitySecret;
    use crate::daemon::surroundings::Wishes;
    use crate::dataplane::{Mailbox, Table};
    use crate::io::tun::Tun;
    use crate::io::udp;
    use crate::proto::{NodeConfig, PeerConfig};

    /// More than one round has turns for.
    const PEERS: u64 = TRANSMIT_BURST as u64 + 44;

    /// A node that is late: the first hellos of all peers are due, and go to `endpoint`.
    fn late_node(now: Instant, endpoint: SocketAddr) -> Node {
        let identity = |number| IdentitySecret::generate(&mut Rng::from_number(number));
        let peer = |number| PeerConfig {
            id: identity(number).id(),
            endpoints: vec![endpoint],
            prefixes: Vec::new(),
            // Those are greeted at the start, however many there are.
            keepalive: Some(Duration::from_secs(25)),
        };
        let config = NodeConfig { peers: (1..=PEERS).map(peer).collect(), ..NodeConfig::default() };
        Node::new(config, identity(0), Rng::from_number(0), now.checked_sub(Duration::from_secs(5)).unwrap())
    }

    /// Whether something is left to send at the end; nothing if this must not be tried here.
    async fn run_for(duration: Duration, questions: mpsc::Receiver<Question>) -> Option<bool> {
        let key = format_public(&IdentitySecret::generate(&mut Rng::from_number(1)).id());
        let text = format!(
            "[interface]\naddresses = [\"10.77.0.1/24\"]\n[[peer]]\nname = \"b\"\npublic_key = \"{key}\"\nprefixes = [\"10.77.0.2/32\"]\n"
        );
        let config = Config::parse(&text, "handfast.toml").unwrap();
        let far = udp::bind(0, None, 1).unwrap().remove(0);
        let endpoint = SocketAddr::from((Ipv4Addr::LOCALHOST, far.port().unwrap()));
        let sender = udp::bind(0, None, 1).unwrap()[0].sender().unwrap();
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            println!("skipped: needs root");
            return None;
        }
        let tun = Tun::create("hf-test", 1, false).unwrap();
        let clock = Clock::start().unwrap();
        let node = late_node(clock.now(), endpoint);
        let shared = Arc::new(Shared {
            table: Table::new(node.routes().clone()),
            mailbox: Mailbox::default(),
            rules: Default::default(),
            addresses: Vec::new(),
            offload: tun.offload,
            dscp: OuterDscp::default(),
            drops: SharedDrops::default(),
            tun: Arc::default(),
        });
        let endpoints = Endpoints::new(&[]);
        let edges = Edges {
            tun: TunWriter::new(tun.queues[0].clone(), Arc::clone(&shared.tun)),
            sender,
            outlets: Outlets::new(None, TrafficClass::default()).unwrap(),
            shared,
            threads: Vec::new(),
            resolver: Resolver::new(endpoints.names()),
            endpoints,
            surroundings: Surroundings::new(tun.index, 0, Wishes::default()),
            questions,
            stop: StopSignals::listen().unwrap(),
        };
        let mut engine = Engine::new(&config, clock, Alarm::new().unwrap(), node, edges);
        assert!(tokio::time::timeout(duration, engine.run()).await.is_err(), "it runs until it is stopped");
        Some(engine.node.poll_transmit(clock.now(), &mut engine.edges.sender))
    }

    /// In a thread of its own, which alone is in the new network namespace.
    fn in_namespace<T: Send>(run: impl Future<Output = T> + Send) -> T {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::scope(|scope| scope.spawn(|| runtime().block_on(run)).join().unwrap())
    }

    /// What was left over had to wait for whatever woke the loop next.
    #[test]
    fn what_one_round_has_no_turn_for_is_sent_in_the_next_one() {
        // Before the first hello is repeated.
        let left = in_namespace(run_for(Duration::from_millis(400), mpsc::channel(1).1));
        assert_ne!(left, Some(true), "some hellos were sent, and others wait");
    }

    #[test]
    fn questions_are_answered_and_a_ping_at_the_latest_after_two_seconds() {
        let ping = |peer: &str, number| ControlCommand::Ping { peer: peer.to_owned(), number };
        let (asks, questions) = mpsc::channel(8);
        let ask = |command| {
            let (sender, answer) = oneshot::channel();
            asks.try_send((Request::new(command), sender)).unwrap();
            answer
        };
        let mut pings = [ask(ping("b", 7)), ask(ping("10.77.0.2", 7))];
        let mut unknown = ask(ping("x", 1));
        let mut why = ask(ControlCommand::Why { peer: "b".to_owned() });
        let mut netcheck = ask(ControlCommand::Netcheck);
        if in_namespace(run_for(Duration::from_millis(2500), questions)).is_none() {
            return;
        }
        for ping in &mut pings {
            let answer = ping.try_recv().unwrap();
            assert!(
                matches!(&answer, Response::Pong(pong) if pong.rtt_ms.is_none() && (&pong.peer[..], pong.number) == ("b", 7)),
                "{answer:?}"
            );
        }
        let answer = unknown.try_recv().unwrap();
        assert!(
            matches!(&answer, Response::Error(refusal) if refusal.message == "there is no peer \"x\"; there are: b"),
            "{answer:?}"
        );
        let answer = why.try_recv().unwrap();
        assert!(
            matches!(&answer, Response::Why(why) if why.explanation.starts_with("b is not connected yet")),
            "{answer:?}"
        );
        assert!(matches!(netcheck.try_recv(), Ok(Response::Netcheck(_))));
    }
}
