//! `peers`: how each peer is reached, in one table.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::Failure;
use super::show::{primary, print, socket_of, state_label};
use super::table::{Bytes, Column, Milliseconds, or_dash, printable, table};
use crate::control::client;
use crate::control::message::{Hop, PeerState, PeerStatus, Status};

const COLUMNS: [Column; 8] = [
    ("PEER", false),
    ("STATE", false),
    ("PATH", false),
    ("KIND", false),
    ("RTT", true),
    ("RECEIVED", true),
    ("SENT", true),
    ("KNOWN BY", false),
];

/// The part of the status that this command shows.
#[derive(Debug, Serialize)]
struct Peers {
    version: u32,
    peers: Vec<PeerStatus>,
}

/// Prints the peers of the daemon behind `socket`, or of the one that is found.
pub(super) fn peers(socket: Option<&Path>, json: bool, output: &mut dyn Write) -> Result<(), Failure> {
    let Status { version, peers, .. } = client::status(&socket_of(socket)?)?;
    print(&Peers { version, peers }, json, render, output)
}

fn render(said: &Peers) -> String {
    if said.peers.is_empty() {
        return "No peers are configured.\n".to_owned();
    }
    let rows: Vec<_> = said.peers.iter().map(row).collect();
    let mut text = String::new();
    table(&mut text, &COLUMNS, &rows);
    text.push('\n');
    text.push_str(&total(&said.peers));
    printable(text)
}

fn row(peer: &PeerStatus) -> [String; COLUMNS.len()] {
    let path = primary(peer);
    let way = path.map(|path| match &path.hop {
        Hop::Direct(address) => address.to_string(),
        Hop::Relay(relay) => format!("via {relay}"),
    });
    let rtt = path.and_then(|path| path.rtt_ms).or(peer.rtt_ms);
    [
        peer.name.clone(),
        state_label(peer.state).to_owned(),
        way.unwrap_or_else(|| or_dash(peer.endpoint)),
        or_dash(path.map(|path| path.kind.label())),
        or_dash(rtt.map(Milliseconds)),
        Bytes(peer.rx_bytes).to_string(),
        Bytes(peer.tx_bytes).to_string(),
        if peer.known_by.is_empty() { "-".to_owned() } else { peer.known_by.join(", ") },
    ]
}

fn total(peers: &[PeerStatus]) -> String {
    let in_state = |state| peers.iter().filter(|peer| peer.state == state).count();
    let connected = in_state(PeerState::Connected);
    let relayed = peers.iter().filter(|peer| peer.state == PeerState::Connected);
    let relayed = relayed.filter(|peer| primary(peer).is_some_and(|path| matches!(path.hop, Hop::Relay(_)))).count();
    let sum = |bytes: fn(&PeerStatus) -> u64| Bytes(peers.iter().map(bytes).fold(0, u64::saturating_add));
    format!(
        "{} peer{}: {connected} connected ({} direct, {relayed} relayed), {} connecting, {} idle; received {}, sent {}\n",
        peers.len(),
        if peers.len() == 1 { "" } else { "s" },
        connected - relayed,
        in_state(PeerState::Connecting),
        in_state(PeerState::Idle),
        sum(|peer| peer.rx_bytes),
        sum(|peer| peer.tx_bytes),
    )
}
