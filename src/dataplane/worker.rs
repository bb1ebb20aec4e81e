//! One data thread: what it owns, its loop, and its end.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::inbound::{self, Inbound};
use super::outbound::{self, Outbound, report_too_big};
use super::patience::Patience;
use super::{Notice, Shared};
use crate::io::poller::{Poller, Token, Waker};
use crate::io::tun::{Queue, TunError};
use crate::io::udp::{Receiver, SendCounters, Sender};

const WAKER: Token = 0;
const QUEUE: Token = 1;
/// The first socket; the next ones follow.
const SOCKETS: Token = 2;

/// Who carries more in one round, in bytes, does not look for what comes next.
const BULK: usize = 8 << 10;

/// What one data thread owns.
#[derive(Debug)]
pub struct Edges {
    /// Its queue of the interface.
    pub queue: Queue,
    /// Its sockets, as far as they receive.
    pub receivers: Vec<Receiver>,
    /// The same sockets, as far as they send.
    pub sender: Sender,
}

/// The present, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// By the one that never goes back.
    pub now: Instant,
    /// By the one of which the kernel's timestamps are: since 1970.
    pub since_epoch: Duration,
}

/// A data thread that runs, as others see it.
#[derive(Debug)]
pub struct DataThread {
    thread: Option<JoinHandle<()>>,
    outside: Outside,
}

/// What both sides hold.
#[derive(Clone, Debug)]
struct Outside {
    waker: Waker,
    stop: Arc<AtomicBool>,
    figures: Arc<Figures>,
}

/// What a data thread says of itself.
#[derive(Debug, Default)]
struct Figures {
    sent: Mutex<SendCounters>,
    receive_errors: AtomicU64,
    rounds: AtomicU64,
}

/// Why a data thread has ended, when it should not have.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The interface.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// Anything else that the system refused.
    #[error(transparent)]
    System(#[from] io::Error),
    /// A fault in this program.
    #[error("a data thread has panicked")]
    Panicked,
}

impl DataThread {
    /// Starts data thread number `number`; `clock` tells it the present.
    ///
    /// # Errors
    /// When the system has no threads or descriptors left.
    pub fn start(
        number: usize,
        edges: Edges,
        shared: Arc<Shared>,
        clock: impl Fn() -> Present + Send + 'static,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let waker = Waker::new(&poller, WAKER)?;
        poller.watch(&edges.queue, QUEUE)?;
        for (receiver, token) in edges.receivers.iter().zip(SOCKETS..) {
            poller.watch(receiver.socket(), token)?;
        }
        let outside = Outside { waker, stop: Arc::default(), figures: Arc::default() };
        let patience = Patience::new(clock().now);
        let worker = Worker {
            edges,
            shared: Arc::clone(&shared),
            clock,
            poller,
            outside: outside.clone(),
            outbound: Outbound::new(),
            inbound: Inbound::new(),
            patience,
            carried: 0,
            blocked: false,
        };
        let run = move || {
            // Dropped by a panic as well, and then the error is still there to tell.
            let mut end = End { shared: Arc::clone(&shared), error: Some(WorkerError::Panicked) };
            end.error = worker.run().err();
        };
        let thread = thread::Builder::new().name(format!("hf-data-{number}")).spawn(run)?;
        Ok(Self { thread: Some(thread), outside })
    }

    /// What became of the datagrams that it sent.
    pub fn sent(&self) -> SendCounters {
        *self.outside.figures.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the kernel refused to hand datagrams over.
    pub fn receive_errors(&self) -> u64 {
        self.outside.figures.receive_errors.load(Ordering::Relaxed)
    }

    /// Wakes it, and tells how often it had come round by then: whoever asks twice knows whether it is alive.
    pub fn probe(&self) -> u64 {
        let rounds = self.outside.figures.rounds.load(Ordering::Relaxed);
        self.outside.waker.wake();
        rounds
    }

    /// Tells it to stop; whoever drops it waits for that.
    pub fn stop(&self) {
        self.outside.stop.store(true, Ordering::Relaxed);
        self.outside.waker.wake();
    }
}

impl Drop for DataThread {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // Its end, in whichever way, was told through the mailbox.
            let _ = thread.join();
        }
    }
}

/// Tells how a thread has ended.
struct End {
    shared: Arc<Shared>,
    error: Option<WorkerError>,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(error) = self.error.take() {
            self.shared.mailbox.notice(Notice::Failed(error));
        }
    }
}

/// A data thread from inside.
struct Worker<C> {
    edges: Edges,
    shared: Arc<Shared>,
    clock: C,
    poller: Poller,
    outside: Outside,
    outbound: Outbound,
    inbound: Inbound,
    patience: Patience,
    /// What the last round has carried, in bytes.
    carried: usize,
    /// The sockets were full when they were tried last: they are watched for room.
    blocked: bool,
}

/// What one wait has found.
#[derive(Debug, Default)]
struct Ready {
    any: bool,
    queue: bool,
    /// One bit for each socket.
    sockets: u64,
}

impl<C: Fn() -> Present> Worker<C> {
    fn run(mut self) -> Result<(), WorkerError> {
        while !self.outside.stop.load(Ordering::Relaxed) {
            let ready = self.wait()?;
            self.round(&ready)?;
        }
        Ok(())
    }

    /// What is ready. Waits for something, unless packets wait that could be sent.
    fn wait(&mut self) -> io::Result<Ready> {
        if self.outbound.has_waiting() && !self.blocked {
            return self.look(false);
        }
        let began = (self.clock)().now;
        // Bulk does not wait for an answer, and whoever yields while there is much to do has to wait for long.
        let until = if self.carried < BULK { self.patience.until(began) } else { began };
        let mut last = began;
        loop {
            let ready = self.look(false)?;
            let now = (self.clock)().now;
            let is_unwelcome = self.patience.is_unwelcome(last, now);
            if ready.any {
                return Ok(ready);
            }
            if now >= until || is_unwelcome {
                self.patience.on_vain(began, now);
                return self.look(true);
            }
            // To whoever could make something ready.
            last = now;
            thread::yield_now();
        }
    }

    fn look(&self, wait: bool) -> io::Result<Ready> {
        let mut ready = Ready::default();
        let count = self.poller.poll(wait, |token| match token {
            WAKER => self.outside.waker.reset(),
            QUEUE => ready.queue = true,
            socket => ready.sockets |= 1 << (socket - SOCKETS),
        })?;
        ready.any = count > 0;
        Ok(ready)
    }

    /// One round of bounded work.
    fn round(&mut self, ready: &Ready) -> Result<(), WorkerError> {
        let Present { now, since_epoch } = (self.clock)();
        self.carried = 0;
        let Self { edges: Edges { queue, receivers, sender }, shared, outbound, inbound, .. } = self;
        for (receiver, bit) in receivers.iter_mut().zip(0..) {
            if ready.sockets & (1 << bit) != 0 {
                self.carried += inbound.carry(receiver, &inbound::Way { now, since_epoch, shared, queue });
            }
        }
        if self.blocked {
            sender.flush();
        }
        if ready.queue {
            outbound.fill(queue, now, shared)?;
        }
        if outbound.has_waiting() && !sender.is_blocked() {
            self.carried += outbound.carry(&mut outbound::Way { now, shared, sender });
            sender.flush();
            report_too_big(sender, shared);
        }
        if sender.is_blocked() != self.blocked {
            self.watch_for_room()?;
        }
        self.tell();
        Ok(())
    }

    /// While the kernel has no room for datagrams, packets wait in the fair queue.
    fn watch_for_room(&mut self) -> io::Result<()> {
        let Edges { receivers, sender, .. } = &self.edges;
        self.blocked = sender.is_blocked();
        for (receiver, token) in receivers.iter().zip(SOCKETS..) {
            self.poller.change(receiver.socket().as_fd(), token, true, sender.is_blocked_on(receiver.socket()))?;
        }
        Ok(())
    }

    fn tell(&self) {
        let figures = &self.outside.figures;
        *figures.sent.lock().unwrap_or_else(PoisonError::into_inner) = self.edges.sender.counters();
        let errors = self.edges.receivers.iter().map(Receiver::errors).sum();
        figures.receive_errors.store(errors, Ordering::Relaxed);
        figures.rounds.fetch_add(1, Ordering::Relaxed);
    }
}
