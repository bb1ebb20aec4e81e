//! `netcheck`: what the network lets this node do, in words.

use std::io::Write;
use std::path::Path;

use super::Failure;
use super::show::{print, socket_of, state_label};
use super::table::{Age, Milliseconds, printable};
use crate::control::client;
use crate::control::message::{Netcheck, PathKind, PeerState, RelayStatus};

/// Width of the names in front.
const INDENT: usize = 14;

/// Prints what the daemon behind `socket` knows of its network, or the one that is found.
pub(super) fn netcheck(socket: Option<&Path>, json: bool, output: &mut dyn Write) -> Result<(), Failure> {
    print(&client::netcheck(&socket_of(socket)?)?, json, render, output)
}

/// Prints why a peer is reached as it is, or is not.
pub(super) fn why(socket: Option<&Path>, peer: &str, json: bool, output: &mut dyn Write) -> Result<(), Failure> {
    let why = client::why(&socket_of(socket)?, peer)?;
    print(&why, json, |why| printable(why.explanation.clone()) + "\n", output)
}

fn render(said: &Netcheck) -> String {
    let families = match (said.ipv4, said.ipv6) {
        (true, true) => "IPv4 and IPv6",
        (true, false) => "IPv4; no member was heard by IPv6",
        (false, true) => "IPv6; no member was heard by IPv4",
        (false, false) => "no member was heard so far",
    };
    let seen = said.observed.iter().map(|seen| format!("{} by {}", seen.address, seen.by));
    let local = said.local.iter().filter(|local| local.kind != PathKind::Mapped).map(|local| local.address.to_string());
    let mapped =
        said.local.iter().filter(|local| local.kind == PathKind::Mapped).map(|local| local.address.to_string());
    let mut text = String::new();
    let mut add = |name: &str, lines: Vec<String>| {
        for (line, name) in lines.iter().zip(std::iter::once(name).chain(std::iter::repeat(""))) {
            text.push_str(&format!("{name:<INDENT$}{line}\n"));
        }
    };
    add("reaches", vec![families.to_owned()]);
    add("seen at", or("nobody has said where", seen.collect()));
    add("own addresses", or("none known", local.collect()));
    add("NAT", vec![mapping(said)]);
    add("lets in", vec![filtering(said).to_owned()]);
    add("hairpin", vec![hairpin(said).to_owned()]);
    add("lifetime", vec![lifetime(said)]);
    add("port mapping", or("no router forwards a port", mapped.collect()));
    add("relays", or("no member relays", said.relays.iter().map(relay).collect()));
    add("advice", vec![said.advice.clone()]);
    printable(text)
}

fn or(none: &str, lines: Vec<String>) -> Vec<String> {
    if lines.is_empty() { vec![none.to_owned()] } else { lines }
}

fn mapping(said: &Netcheck) -> String {
    let kind = match (said.public_address, said.same_mapping) {
        (true, _) => return "none: an own interface has the address that others see".to_owned(),
        (false, Some(true)) => "the same port for all destinations (endpoint-independent mapping)",
        (false, Some(false)) => "another port for each destination (symmetric)",
        (false, None) => "unknown: it takes two introducers to find out",
    };
    match said.port_step {
        Some(step) => format!("{kind}; ports follow each other in steps of {step}"),
        None => kind.to_owned(),
    }
}

fn filtering(said: &Netcheck) -> &'static str {
    match (said.public_address, said.open_filter) {
        (_, Some(true)) => "packets of any member (endpoint-independent filtering)",
        (_, Some(false)) => "only packets of members that this node has written to",
        (true, None) => "whatever the firewall of this host does",
        (false, None) => "not found out",
    }
}

fn hairpin(said: &Netcheck) -> &'static str {
    match said.hairpin {
        Some(true) => "the router sends packets for its own outer address back in",
        Some(false) => "the router does not send packets for its own outer address back in",
        None => "not found out",
    }
}

fn lifetime(said: &Netcheck) -> String {
    let keepalive = Age(said.keepalive_seconds);
    match said.lifetime_seconds {
        _ if said.keepalive_seconds <= 0.0 => "no keepalives are sent".to_owned(),
        Some(lifetime) => format!("a mapping lives at least {}; a keepalive every {keepalive}", Age(lifetime)),
        None => format!("not found out; a keepalive every {keepalive}"),
    }
}

fn relay(relay: &RelayStatus) -> String {
    match (relay.state, relay.rtt_ms) {
        (PeerState::Connected, Some(rtt)) => {
            format!("{}, {}, at least {:.1} Mbit/s a member", relay.name, Milliseconds(rtt), relay.mbit)
        }
        (PeerState::Idle | PeerState::Connecting | PeerState::Connected, _) => {
            format!("{}, {}", relay.name, state_label(relay.state))
        }
    }
}
