//! The loop: everything that comes in is taken in rounds of bounded work, so that nothing waits long for anything else.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::DaemonError;
use super::clock::Clock;
use super::endpoints::Endpoints;
use super::notify::Watchdog;
use super::status::Snapshot;
use crate::base::PeerIndex;
use crate::config::Config;
use crate::config::key::format_public;
use crate::control::{Command as ControlCommand, Request, Response};
use crate::io::alarm::Alarm;
use crate::io::resolve::{Answer, Resolver};
use crate::io::tun::{MAX_PACKET, Tun, TunError};
use crate::io::udp::{Receiver, Sender};
use crate::proto::{Command, Event, Node};

/// Packets taken from the interface in one round: enough to pack and to send them in trains, little enough that datagrams do not wait.
const TUN_BURST: usize = 64;

/// Calls of [`Node::poll_transmit`] in one round.
const TRANSMIT_BURST: usize = 256;

/// How long leaving may wait for room in the kernel.
const FAREWELL: Duration = Duration::from_millis(300);

/// A question from the control socket, and where its answer goes.
pub(super) type Question = (Request, oneshot::Sender<Response>);

/// The edges that the loop drives.
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) tun: Tun,
    pub(super) receiver: Receiver,
    pub(super) sender: Sender,
    pub(super) resolver: Resolver,
    pub(super) endpoints: Endpoints,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) stop: StopSignals,
}

/// The core, the edges, and what keeps them going.
#[derive(Debug)]
pub(super) struct Engine<'a> {
    config: &'a Config,
    clock: Clock,
    node: Node,
    edges: Edges,
    alarm: Alarm,
    /// What the alarm is set to.
    armed: Option<Instant>,
    watchdog: Watchdog,
    /// Room for one packet of the interface.
    packet: Box<[u8]>,
}

/// What ended a wait and is in hand already. Packets and timers are looked for in every round.
#[derive(Debug, Default)]
struct Woken {
    stop: bool,
    question: Option<Question>,
    answer: Option<Answer>,
}

impl<'a> Engine<'a> {
    pub(super) fn new(config: &'a Config, clock: Clock, alarm: Alarm, node: Node, edges: Edges) -> Self {
        Self {
            config,
            clock,
            node,
            edges,
            alarm,
            armed: None,
            watchdog: Watchdog::start(clock.now()),
            packet: vec![0; MAX_PACKET].into_boxed_slice(),
        }
    }

    /// Carries packets until a signal says stop.
    ///
    /// # Errors
    /// When the interface is gone, or the system has failed otherwise.
    pub(super) async fn run(&mut self) -> Result<(), DaemonError> {
        loop {
            self.set_alarm()?;
            let woken = poll_fn(|cx| self.poll_woken(cx)).await?;
            if woken.stop {
                return Ok(());
            }
            if self.round(woken)? {
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
        if self.edges.sender.is_blocked() {
            let room = poll_fn(|cx| self.edges.sender.poll_unblocked(cx));
            // Who does not hear it will notice.
            let _ = tokio::time::timeout(FAREWELL, room).await;
            self.edges.sender.flush();
        }
    }

    /// Sees to it that the loop wakes for the next deadline. An alarm that comes too early is harmless, and cheaper than one that is set for every packet.
    fn set_alarm(&mut self) -> Result<(), DaemonError> {
        let deadline = [self.node.poll_timeout(), self.watchdog.deadline()].into_iter().flatten().min();
        if let Some(deadline) = deadline.filter(|deadline| self.armed.is_none_or(|armed| *deadline < armed)) {
            self.alarm.set(deadline.saturating_duration_since(self.clock.now()))?;
            self.armed = Some(deadline);
        }
        Ok(())
    }

    /// Asks everything that can end the wait.
    fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<Result<Woken, DaemonError>> {
        let edges = &mut self.edges;
        let mut woken = Woken::default();
        let mut any = false;
        if edges.stop.poll(cx).is_ready() {
            woken.stop = true;
            any = true;
        }
        if let Poll::Ready(expired) = self.alarm.poll_expired(cx) {
            expired?;
            self.armed = None;
            any = true;
        }
        if let Poll::Ready(ready) = edges.receiver.poll_ready(cx) {
            ready?;
            any = true;
        }
        // While the kernel has no room for datagrams, packets wait in the interface's queue, where the senders can feel it.
        if edges.sender.is_blocked() {
            any |= edges.sender.poll_unblocked(cx).is_ready();
        } else if let Poll::Ready(ready) = edges.tun.reader.poll_ready(cx) {
            ready.map_err(|error| DaemonError::tun(self.config, error))?;
            any = true;
        }
        if let Poll::Ready(Some(question)) = edges.questions.poll_recv(cx) {
            woken.question = Some(question);
            any = true;
        }
        if let Poll::Ready(answer) = edges.resolver.poll_answer(cx) {
            woken.answer = Some(answer);
            any = true;
        }
        if any { Poll::Ready(Ok(woken)) } else { Poll::Pending }
    }

    /// One round of work; whether there may be more at once.
    fn round(&mut self, woken: Woken) -> Result<bool, DaemonError> {
        let now = self.clock.now();
        let datagrams = self.take_datagrams(now);
        let packets = self.take_packets(now).map_err(|error| DaemonError::tun(self.config, error))?;
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
        let refused = self.tell_refusals(now);
        while let Some(event) = self.node.poll_event() {
            self.on_event(event);
        }
        if let Some((request, answer)) = woken.question {
            // A caller that did not wait is no loss.
            let _ = answer.send(self.answer(now, &request));
        }
        self.watchdog.feed(now);
        Ok(datagrams > 0 || packets == TUN_BURST || transmits == TRANSMIT_BURST || refused)
    }

    /// Tells the core what the interface is too small for (PROTOCOL §8.5); whether there was anything.
    fn tell_refusals(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((remote, len)) = self.edges.sender.take_too_big() {
            self.node.handle_command(now, Command::TooBig { remote, len });
            any = true;
        }
        any
    }

    fn take_datagrams(&mut self, now: Instant) -> usize {
        let Edges { tun, receiver, sender, .. } = &mut self.edges;
        receiver.receive(|link, datagram| {
            if let Err(reason) = self.node.handle_datagram(now, link, datagram, sender, &mut tun.writer) {
                tracing::trace!(reason = reason.label(), from = %link.remote, "a datagram was dropped");
            }
        })
    }

    fn take_packets(&mut self, now: Instant) -> Result<usize, TunError> {
        let Edges { tun, sender, .. } = &mut self.edges;
        let mut count = 0;
        while count < TUN_BURST && !sender.is_blocked() {
            let Some(length) = tun.reader.read(&mut self.packet)? else { break };
            let packet = self.packet.get(..length).unwrap_or_default();
            if let Err(reason) = self.node.handle_tun(now, packet, sender, &mut tun.writer) {
                tracing::trace!(reason = reason.label(), "a packet of the interface was dropped");
            }
            count += 1;
        }
        self.node.flush(now, sender);
        Ok(count)
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
            Event::Moved { peer } => tracing::info!(peer = name(peer), "the peer has another address"),
            Event::Unreachable { peer } => tracing::info!(peer = name(peer), "the peer does not answer"),
        }
    }

    fn answer(&self, now: Instant, request: &Request) -> Response {
        match request.command {
            ControlCommand::Status => {
                let snapshot = Snapshot {
                    config: self.config,
                    public_key: &format_public(&self.node.id()),
                    uptime: self.clock.uptime(now),
                    node: self.node.status(now),
                    tun: self.edges.tun.writer.counters(),
                    udp: self.edges.sender.counters(),
                    receive_errors: self.edges.receiver.errors(),
                };
                Response::Status(Box::new(snapshot.to_status()))
            }
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
