//! What the control socket says: the facts of the core and the edges, under the names of the configuration.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::lookup::Names;
use crate::config::key::format_public;
use crate::config::{Config, Peer};
use crate::control::message::{
    Hop, InterfaceStatus, PathKind, PathStatus, PeerState, PeerStatus, ReliableStatus, Status, VERSION,
};
use crate::crypto::aead::Cipher;
use crate::io::tun::TunCounters;
use crate::io::udp::SendCounters;
use crate::proto::command::{self, CandidateKind, NodeStatus, PeerStatus as Facts};
use crate::proto::event::Drops;
use crate::wire::sealed::{HEADER, TAG};

/// The state of the whole daemon.
#[derive(Debug)]
pub(super) struct Snapshot<'a> {
    pub(super) config: &'a Config,
    pub(super) public_key: &'a str,
    pub(super) uptime: Duration,
    pub(super) node: NodeStatus,
    pub(super) tun: &'a TunCounters,
    pub(super) udp: SendCounters,
    /// How often the kernel refused to hand datagrams over.
    pub(super) receive_errors: u64,
}

impl Snapshot<'_> {
    /// As the control socket tells it.
    pub(super) fn to_status(&self) -> Status {
        let interface = &self.config.interface;
        let names = Names::of_peers(&self.config.peers);
        Status {
            version: VERSION,
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
            interface: InterfaceStatus {
                name: interface.name.clone(),
                addresses: interface.addresses.clone(),
                mtu: interface.mtu,
            },
            public_key: self.public_key.to_owned(),
            port: self.config.port,
            uptime_seconds: self.uptime.as_secs_f64(),
            peers: self
                .config
                .peers
                .iter()
                .zip(&self.node.peers)
                .map(|(peer, facts)| peer_status(peer, facts, &names))
                .collect(),
            drops: by_reason(&self.node.drops),
            counters: self.counters(),
        }
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let SendCounters {
            sent,
            batches,
            moved,
            full,
            unreachable,
            refused,
            too_big,
            denied,
            no_buffers,
            no_socket,
            other,
        } = self.udp;
        let TunCounters { delivered, down, refused: not_taken } = self.tun;
        let [delivered, down, not_taken] = [delivered, down, not_taken].map(|counter| counter.load(Ordering::Relaxed));
        let counters = [
            ("udp_sent", sent),
            ("udp_send_calls", batches),
            ("udp_source_gone", moved),
            ("udp_drop_full", full),
            ("udp_drop_unreachable", unreachable),
            ("udp_drop_refused", refused),
            ("udp_drop_too_big", too_big),
            ("udp_drop_denied", denied),
            ("udp_drop_no_buffers", no_buffers),
            ("udp_drop_no_socket", no_socket),
            ("udp_drop_other", other),
            ("udp_receive_errors", self.receive_errors),
            ("tun_delivered", delivered),
            ("tun_drop_down", down),
            ("tun_drop_refused", not_taken),
        ];
        counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }
}

/// Whether there is a session with a peer.
pub(super) fn state(facts: &Facts) -> PeerState {
    match facts.session {
        Some(_) => PeerState::Connected,
        None if facts.connecting => PeerState::Connecting,
        None => PeerState::Idle,
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Where a path leads, under the name of the relay.
pub(super) fn hop(hop: command::Hop, names: &Names<'_>) -> Hop {
    match hop {
        command::Hop::Direct(address) => Hop::Direct(address),
        command::Hop::Relay(peer) => Hop::Relay(names.of(peer).to_owned()),
    }
}

pub(super) fn kind(kind: CandidateKind) -> PathKind {
    match kind {
        CandidateKind::Local => PathKind::Local,
        CandidateKind::Observed => PathKind::Observed,
        CandidateKind::Mapped => PathKind::Mapped,
        CandidateKind::Configured => PathKind::Configured,
        CandidateKind::Heard => PathKind::Heard,
        CandidateKind::Predicted => PathKind::Predicted,
        CandidateKind::Relayed => PathKind::Relayed,
    }
}

fn path_status(path: &command::PathStatus, names: &Names<'_>) -> PathStatus {
    PathStatus {
        hop: hop(path.hop, names),
        kind: kind(path.kind),
        primary: path.is_primary,
        proven: path.is_proven,
        rtt_ms: path.rtt.map(milliseconds),
        heard_seconds: path.heard.map(|since| since.as_secs_f64()),
        unanswered: path.unanswered,
    }
}

fn peer_status(peer: &Peer, facts: &Facts, names: &Names<'_>) -> PeerStatus {
    let session = facts.session.as_ref();
    // A relayed path has an address too, but one that means nothing outside of this process.
    let relayed = facts.paths.iter().any(|path| path.is_primary && matches!(path.hop, command::Hop::Relay(_)));
    let cipher = |cipher| match cipher {
        Cipher::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        Cipher::Aes256Gcm => "AES-256-GCM",
    };
    PeerStatus {
        name: peer.name.clone(),
        public_key: format_public(&peer.id),
        prefixes: peer.prefixes.clone(),
        endpoint: session.filter(|_| !relayed).map(|session| session.endpoint),
        state: state(facts),
        session_age_seconds: session.map(|session| session.age.as_secs_f64()),
        cipher: session.map(|session| cipher(session.cipher).to_owned()),
        // PROTOCOL §4.5: what comes after epoch 0 has the secret of ML-KEM in it.
        post_quantum: session.is_some_and(|session| session.epoch > 0),
        rtt_ms: session.and_then(|session| session.rtt).map(milliseconds),
        last_received_seconds: facts.last_received.map(|since| since.as_secs_f64()),
        rx_bytes: facts.traffic.rx_bytes,
        tx_bytes: facts.traffic.tx_bytes,
        rx_packets: facts.traffic.rx_packets,
        tx_packets: facts.traffic.tx_packets,
        datagram_limit: session.and_then(|session| u16::try_from(HEADER + session.datagram_limit + TAG).ok()),
        paths: facts.paths.iter().map(|path| path_status(path, names)).collect(),
        standing: facts.is_standing,
        relay: facts.relays.is_some(),
        known_by: facts.known_by.iter().map(|&peer| names.of(peer).to_owned()).collect(),
        reliable: session.map_or_else(ReliableStatus::default, |session| ReliableStatus {
            queued_bytes: session.reliable_queued as u64,
            retransmissions: session.reliable_repeated,
        }),
        drops: by_reason(&facts.drops),
    }
}

fn by_reason(drops: &Drops) -> BTreeMap<String, u64> {
    drops.nonzero().map(|(label, count)| (label.to_owned(), count)).collect()
}
