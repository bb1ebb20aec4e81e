//! `status`: what the daemon says, as a table or as JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::table::{Age, Bytes, Column, Milliseconds, or_dash, printable, table};
use super::{Exit, Failure};
use crate::config::RUNTIME_DIRECTORY;
use crate::control::client::{self, ClientError};
use crate::control::message::{Hop, PathStatus, PeerState, PeerStatus, Status};

/// Columns of the table of peers; `true` is flush right.
const COLUMNS: [Column; 9] = [
    ("PEER", false),
    ("STATE", false),
    ("ENDPOINT", false),
    ("RTT", true),
    ("SESSION", true),
    ("HEARD", true),
    ("RECEIVED", true),
    ("SENT", true),
    ("CIPHER", false),
];

/// Prints the status of the daemon behind `socket`, or of the one that is found.
pub(super) fn status(socket: Option<&Path>, json: bool, output: &mut dyn Write) -> Result<(), Failure> {
    let status = client::status(&socket_of(socket)?)?;
    print(&status, json, render, output)
}

/// The socket that the user named, or the one that is found.
pub(super) fn socket_of(named: Option<&Path>) -> Result<PathBuf, Failure> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => Ok(client::find_socket(Path::new(RUNTIME_DIRECTORY))?),
    }
}

/// Prints what the daemon said, for programs or for people.
pub(super) fn print<T: Serialize>(
    said: &T,
    json: bool,
    render: impl FnOnce(&T) -> String,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let text = if json {
        serde_json::to_string_pretty(said).map_err(|error| Failure::new(Exit::Failed, error))? + "\n"
    } else {
        render(said)
    };
    output.write_all(text.as_bytes())?;
    output.flush()?;
    Ok(())
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error {
            ClientError::NoDaemon(_) => Exit::NoDaemon,
            ClientError::Several(_)
            | ClientError::Denied(_)
            | ClientError::Silent(_)
            | ClientError::Broken { .. }
            | ClientError::Unintelligible(_)
            | ClientError::UnknownPeer(_)
            | ClientError::Refused(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// In a table.
pub(super) const fn state_label(state: PeerState) -> &'static str {
    match state {
        PeerState::Idle => "idle",
        PeerState::Connecting => "connecting",
        PeerState::Connected => "connected",
    }
}

/// The path that packets take.
pub(super) fn primary(peer: &PeerStatus) -> Option<&PathStatus> {
    peer.paths.iter().find(|path| path.primary)
}

/// The table that a person reads.
fn render(status: &Status) -> String {
    let addresses: Vec<String> = status.interface.addresses.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{}   {}   MTU {}   UDP port {}   up {}\nkey   {}\n\n",
        status.interface.name,
        addresses.join(", "),
        status.interface.mtu,
        status.port,
        Age(status.uptime_seconds),
        status.public_key
    );
    if status.peers.is_empty() {
        text.push_str("No peers are configured.\n");
    } else {
        let rows: Vec<_> = status.peers.iter().map(row).collect();
        table(&mut text, &COLUMNS, &rows);
    }
    let mut notes = Vec::new();
    for peer in &status.peers {
        let queued = Bytes(peer.reliable.queued_bytes);
        let again = peer.reliable.retransmissions;
        if queued.0 > 0 || again > 0 {
            notes.push(format!("{}: reliable channels: {queued} waiting, {again} sent again", peer.name));
        }
        notes.extend(dropped(&peer.name, &peer.drops));
    }
    notes.extend(dropped("this node", &status.drops));
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        text.push_str(&note);
        text.push('\n');
    }
    printable(text)
}

fn row(peer: &PeerStatus) -> [String; COLUMNS.len()] {
    let relay = primary(peer).and_then(|path| match &path.hop {
        Hop::Direct(_) => None,
        Hop::Relay(relay) => Some(format!("via {relay}")),
    });
    let cipher = match (&peer.cipher, peer.post_quantum) {
        (Some(cipher), true) => format!("{cipher}, post-quantum"),
        (Some(cipher), false) => format!("{cipher}, NOT post-quantum"),
        (None, _) => "-".to_owned(),
    };
    [
        peer.name.clone(),
        state_label(peer.state).to_owned(),
        relay.unwrap_or_else(|| or_dash(peer.endpoint)),
        or_dash(peer.rtt_ms.map(Milliseconds)),
        or_dash(peer.session_age_seconds.map(Age)),
        peer.last_received_seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{} ago", Age(seconds))),
        Bytes(peer.rx_bytes).to_string(),
        Bytes(peer.tx_bytes).to_string(),
        cipher,
    ]
}

fn dropped(whose: &str, drops: &BTreeMap<String, u64>) -> Option<String> {
    let reasons: Vec<String> =
        drops.iter().filter(|(_, count)| **count > 0).map(|(why, n)| format!("{n} {why}")).collect();
    (!reasons.is_empty()).then(|| format!("{whose}: dropped: {}", reasons.join(", ")))
}
