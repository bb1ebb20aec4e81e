//! Layer 7: the tokio shell that introduces core and edges to each other. Imports all above.
//!
//! - [`engine`]: the loop that carries packets;
//! - [`clock`]: the one reader of the clock;
//! - [`endpoints`]: where the peers may be reached;
//! - [`questions`]: what the control socket asks: [`status`], [`netcheck`], [`why`], and [`pings`], which wait for a peer;
//! - [`lookup`]: which peer is meant, and what it is called;
//! - [`surroundings`]: what the host is connected to;
//! - [`notify`]: what the service manager is told.

mod clock;
mod endpoints;
mod engine;
mod lookup;
mod netcheck;
mod notify;
mod pings;
mod questions;
mod status;
mod surroundings;
mod why;

use std::future::poll_fn;
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeroize::Zeroizing;

use self::clock::Clock;
use self::endpoints::Endpoints;
use self::engine::{Edges, Engine, StopSignals};
use self::surroundings::{Surroundings, Wishes};
use crate::base::{PeerIndex, Rng, SharedDrops};
use crate::config::{Config, MAX_THREADS, Relay};
use crate::control::{self, ControlListener};
use crate::crypto::aead::hardware_prefers_aes;
use crate::crypto::keys::IdentitySecret;
use crate::dataplane::{self, DataThread, Mailbox, Shared, Table, WorkerError};
use crate::io::alarm::Alarm;
use crate::io::netlink::{NetlinkError, Overlay, Plan};
use crate::io::resolve::{self, Resolver};
use crate::io::tun::{Tun, TunError, TunWriter};
use crate::io::{MARK, netlink, udp};
use crate::overlay::flow::{ChannelRules, TooManyRules};
use crate::proto::command::RelayLimits;
use crate::proto::{Node, NodeConfig, PeerConfig};

/// Questions from the control socket that wait for the loop.
const QUESTIONS: usize = 16;

/// How long the start waits for names. Once the routes are there, a look-up may need the very tunnel that needs its answer.
const NAMES_FIRST: Duration = Duration::from_secs(1);

/// How long the end waits for the kernel to take the rules away.
const TIDY: Duration = Duration::from_secs(1);

/// Runs the daemon until SIGINT, SIGTERM or SIGHUP; nothing is left behind.
///
/// # Errors
/// What it cannot do its work without. Whatever was set up by then is taken down again.
pub fn run(config: Config, identity: IdentitySecret) -> Result<(), DaemonError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(resolve::THREADS).build()?;
    let result = runtime.block_on(serve(&config, identity));
    // A look-up that hangs in the system's resolver does not hold up the end.
    runtime.shutdown_background();
    result
}

/// All randomness of the node, from the operating system. The seed is erased here: kept, it would undo that the generator forgets.
fn generator() -> Result<Rng, DaemonError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| DaemonError::Randomness(error.to_string()))?;
    Ok(Rng::from_seed(*seed))
}

/// Everything that can fail without a trace comes first, the interface last.
async fn serve(config: &Config, identity: IdentitySecret) -> Result<(), DaemonError> {
    let clock = Clock::start()?;
    let rng = generator()?;
    let stop = StopSignals::listen()?;
    let alarm = Alarm::new()?;
    let listener = ControlListener::bind(&config.control_socket)
        .map_err(|error| DaemonError::Control { path: config.control_socket.clone(), error })?;
    let count = config.interface.threads.unwrap_or_else(|| default_threads(config));
    let pairs = udp::bind(config.port, Some(MARK), count)?;
    if let Some(pair) = pairs.first() {
        tracing::debug!(ipv4 = pair.v4.is_some(), ipv6 = pair.v6.is_some(), "the underlay is open");
    }
    let (endpoints, resolver) = resolve_first(config).await;
    let node = node_config(config, &endpoints)?;

    let tun = Tun::create(&config.interface.name, count, config.interface.offload)
        .map_err(|error| DaemonError::tun(config, error))?;
    let overlay = Overlay::set_up(&plan(config, &tun))
        .await
        .map_err(|error| DaemonError::Interface { name: config.interface.name.clone(), error })?;
    warn_of_reverse_path(config, &endpoints);

    let (asks, questions) = mpsc::channel(QUESTIONS);
    let control = tokio::spawn(control::serve(listener, asks));
    let (addresses, rules) = (node.addresses.clone(), node.channels.clone());
    let node = Node::new(node, identity, rng, clock.now());
    let shared = Arc::new(Shared {
        table: Table::new(node.routes().clone()),
        mailbox: Mailbox::default(),
        rules,
        addresses,
        dscp: config.interface.dscp,
        offload: tun.offload,
        drops: SharedDrops::default(),
        tun: Arc::default(),
    });
    tracing::debug!(threads = count, tso = tun.offload.tso, uso = tun.offload.uso, "data threads start");
    let wishes = Wishes { lan_discovery: config.lan_discovery, port_mapping: config.port_mapping };
    let surroundings = Surroundings::new(tun.index, config.port, wishes);
    let (tun, sender, threads) = data_threads(&pairs, &tun, &shared, clock)?;
    let outlets = udp::Outlets::new(Some(MARK), shared.dscp.own())?;
    let edges = Edges { tun, sender, outlets, shared, threads, resolver, endpoints, surroundings, questions, stop };
    let mut engine = Engine::new(config, clock, alarm, node, edges);
    tracing::info!(interface = config.interface.name, port = config.port, peers = config.peers.len(), "up");
    notify::ready(&format!("{} is up, {} peers configured", config.interface.name, config.peers.len()));

    let result = engine.run().await;

    notify::stopping();
    engine.leave().await;
    control.abort();
    // The socket file goes when the task has ended.
    let _ = control.await;
    match timeout(TIDY, overlay.remove()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "something was left behind; the next start removes it"),
        Err(_) => tracing::warn!("the kernel did not answer; the next start removes what was left behind"),
    }
    tracing::info!("down");
    result
}

/// One data thread for each pair of sockets; and what the control thread writes to, which is the first thread's.
fn data_threads(
    pairs: &[udp::Pair],
    tun: &Tun,
    shared: &Arc<Shared>,
    clock: Clock,
) -> Result<(TunWriter, udp::Sender, Vec<DataThread>), DaemonError> {
    let (Some(pair), Some(queue)) = (pairs.first(), tun.queues.first()) else {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    };
    pairs.iter().try_for_each(|pair| pair.set_class(shared.dscp.own()))?;
    let (writer, sender) = (TunWriter::new(queue.clone(), Arc::clone(&shared.tun)), pair.sender()?);
    let mut threads = Vec::new();
    for ((pair, queue), number) in pairs.iter().zip(&tun.queues).zip(0..) {
        let edges = dataplane::Edges { queue: queue.clone(), receivers: pair.receivers()?, sender: pair.sender()? };
        threads.push(DataThread::start(number, edges, Arc::clone(shared), move || clock.present())?);
    }
    Ok((writer, sender, threads))
}

/// How many data threads there are unless the configuration says it: one for each processor that this process may use. But packets that reach the interface on several
/// queues have no order, and a rule for a reliable channel promises one among all its flows.
fn default_threads(config: &Config) -> usize {
    if !config.channels.is_empty() {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS)
}

/// Starts to look names up, and takes in what comes at once.
async fn resolve_first(config: &Config) -> (Endpoints, Resolver) {
    let mut endpoints = Endpoints::new(&config.peers);
    let mut resolver = Resolver::new(endpoints.names());
    resolver.resolve_all();
    // Answers that are late go to the node.
    let _ = timeout(NAMES_FIRST, async {
        while resolver.is_busy() {
            endpoints.learn(poll_fn(|cx| resolver.poll_answer(cx)).await);
        }
    })
    .await;
    (endpoints, resolver)
}

fn node_config(config: &Config, endpoints: &Endpoints) -> Result<NodeConfig, DaemonError> {
    let peers = config.peers.iter().zip((0..).map(PeerIndex)).map(|(peer, index)| PeerConfig {
        id: peer.id,
        endpoints: endpoints.of(index),
        prefixes: peer.prefixes.clone(),
        keepalive: peer.keepalive,
    });
    Ok(NodeConfig {
        peers: peers.collect(),
        addresses: config.interface.addresses.iter().map(IpNet::addr).collect(),
        channels: ChannelRules::new(config.channels.iter().map(|rule| rule.matches.clone()).collect())?,
        prefers_aes: hardware_prefers_aes(),
        dscp: config.interface.dscp,
        publishes: true,
        relay: config.relay.map(relay_limits),
        ..NodeConfig::default()
    })
}

fn relay_limits(relay: Relay) -> RelayLimits {
    RelayLimits { bytes_per_second: u64::from(relay.max_mbit) * 1_000_000 / 8, members: relay.max_members.into() }
}

fn plan(config: &Config, tun: &Tun) -> Plan {
    Plan {
        index: tun.index,
        mtu: config.interface.mtu,
        addresses: config.interface.addresses.clone(),
        prefixes: config.peers.iter().flat_map(|peer| peer.prefixes.iter().copied()).collect(),
        table: config.interface.table,
    }
}

/// Datagrams of a peer whose prefixes cover its own endpoint seem to come the wrong way: their source is routed into the overlay.
fn warn_of_reverse_path(config: &Config, endpoints: &Endpoints) {
    let prefixes: Vec<&IpNet> = config.peers.iter().flat_map(|peer| &peer.prefixes).collect();
    let covered = (0..).map(PeerIndex).zip(&config.peers).any(|(index, _)| {
        let addresses = endpoints.of(index);
        addresses.iter().any(|address| address.is_ipv4() && prefixes.iter().any(|net| net.contains(&address.ip())))
    });
    let strict = netlink::strict_reverse_path().into_iter().filter(|name| *name != config.interface.name);
    for interface in strict.filter(|_| covered) {
        tracing::warn!(
            interface,
            "strict reverse path filtering drops the datagrams of a peer whose prefixes cover its endpoint: set \
             net.ipv4.conf.INTERFACE.rp_filter to 2 (loose)"
        );
    }
}

/// Why the daemon does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The operating system gives no randomness, without which there are no keys.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(String),
    /// The control socket.
    #[error("control socket {}: {error}", .path.display())]
    Control {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong with that.
        error: control::server::BindError,
    },
    /// The sockets of the underlay.
    #[error(transparent)]
    Udp(#[from] udp::BindError),
    /// The device of the overlay interface.
    #[error("interface {name}: {error}")]
    Tun {
        /// Of the interface.
        name: String,
        /// What is wrong with it.
        error: TunError,
    },
    /// Addresses, routes and rules of the overlay interface.
    #[error("interface {name}: {error}")]
    Interface {
        /// Of the interface.
        name: String,
        /// What is wrong with it.
        error: NetlinkError,
    },
    /// The configuration has more rules than there are channels.
    #[error(transparent)]
    Channels(#[from] TooManyRules),
    /// A fault in this program.
    #[error("a data thread has panicked")]
    Panicked,
    /// Anything else that the system refused.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl DaemonError {
    fn worker(config: &Config, error: WorkerError) -> Self {
        match error {
            WorkerError::Tun(error) => Self::tun(config, error),
            WorkerError::System(error) => Self::System(error),
            WorkerError::Panicked => Self::Panicked,
        }
    }

    fn tun(config: &Config, error: TunError) -> Self {
        Self::Tun { name: config.interface.name.clone(), error }
    }
}
