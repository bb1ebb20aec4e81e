//! From sections to a [`Config`], and what must hold between its parts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::socket::UnixAddr;

use super::document::{Item, Section, Source};
use super::error::ConfigError;
use super::keyfile::KeyFileError;
use super::{
    ChannelRule, Config, DEFAULT_INTERFACE, DEFAULT_KEY_FILE, DEFAULT_MTU, DEFAULT_PORT, DEFAULT_RELAY_MBIT,
    DEFAULT_RELAY_MEMBERS, DEFAULT_TABLE, Endpoint, Interface, LEAST_MTU, MAX_CHANNELS, MAX_ENDPOINTS, MAX_THREADS,
    Peer, RUNTIME_DIRECTORY, Relay, flow, key,
};
use super::{address, codepoint};
use crate::base::PeerId;

const SECTIONS: &[&str] =
    &["interface", "identity", "listen", "control", "discovery", "nat", "relay", "peer", "channel"];
pub(super) const INTERFACE_KEYS: &[&str] = &["name", "addresses", "mtu", "table", "offload", "threads", "dscp"];
pub(super) const IDENTITY_KEYS: &[&str] = &["key_file"];
pub(super) const LISTEN_KEYS: &[&str] = &["port"];
pub(super) const CONTROL_KEYS: &[&str] = &["socket"];
pub(super) const DISCOVERY_KEYS: &[&str] = &["lan"];
pub(super) const NAT_KEYS: &[&str] = &["port_mapping"];
pub(super) const RELAY_KEYS: &[&str] = &["enabled", "max_mbit", "max_members"];
pub(super) const PEER_KEYS: &[&str] = &["name", "public_key", "endpoints", "prefixes", "keepalive"];
pub(super) const CHANNEL_KEYS: &[&str] = &["name", "match"];

/// IFNAMSIZ with its terminating zero taken off.
const INTERFACE_NAME: usize = 15;
/// Names that stand for something else in `/proc/sys/net` or are taken on every host.
const RESERVED_INTERFACES: &[&str] = &["all", "default", "lo"];
/// Tables that the kernel keeps for itself: default, main, local.
const RESERVED_TABLES: &[u32] = &[253, 254, 255];
/// The rule must come before that of the main table, which has priority 32766.
const LAST_TABLE: u32 = 32765;
/// A label of the DNS: peers are to have names there.
const NAME: usize = 63;

/// Where in the file the values stand that are checked against other files.
pub(super) struct Places {
    file: String,
    key_file: Option<usize>,
    public_keys: Vec<usize>,
}

/// Everything that `text` says.
pub(super) fn read(text: &str, file: &str) -> Result<(Config, Places), ConfigError> {
    let source = Source::new(file, text);
    let document = source.parse()?;
    let root = source.root(document.get_ref(), SECTIONS)?;

    let interface = interface(&root)?;
    let mut places = Places { file: file.to_owned(), key_file: None, public_keys: Vec::new() };
    let key_file = match find(&root, "identity", IDENTITY_KEYS, "key_file")? {
        Some(item) => {
            places.key_file = Some(item.line());
            item.path()?
        }
        None => PathBuf::from(DEFAULT_KEY_FILE),
    };
    let port = match find(&root, "listen", LISTEN_KEYS, "port")? {
        Some(item) => number(&item, 1, u16::MAX)?,
        None => DEFAULT_PORT,
    };
    let control_socket = match find(&root, "control", CONTROL_KEYS, "socket")? {
        Some(item) => socket(&item)?,
        None => PathBuf::from(format!("{RUNTIME_DIRECTORY}/{}.sock", interface.name)),
    };

    let lan_discovery = flag(&root, "discovery", DISCOVERY_KEYS, "lan", true)?;
    let port_mapping = flag(&root, "nat", NAT_KEYS, "port_mapping", false)?;
    let relay = relay(&root)?;

    let mut taken = Taken::default();
    let mut peers = Vec::new();
    for section in root.sections("peer", PEER_KEYS)? {
        let (peer, line) = peer(section, &interface, &mut taken)?;
        peers.push(peer);
        places.public_keys.push(line);
    }
    let channels = channels(&root)?;
    let config =
        Config { interface, key_file, port, control_socket, lan_discovery, port_mapping, relay, peers, channels };
    Ok((config, places))
}

impl Places {
    /// The key file that the configuration names cannot be used.
    pub(super) fn refuse_key_file(&self, config: &Config, fault: &KeyFileError) -> ConfigError {
        let problem = match fault {
            KeyFileError::Missing => {
                format!("there is no such file; make it with `handfast keygen --out {}`", config.key_file.display())
            }
            KeyFileError::Denied { .. }
            | KeyFileError::Read(_)
            | KeyFileError::NotAFile
            | KeyFileError::Owner { .. }
            | KeyFileError::Mode { .. }
            | KeyFileError::Content
            | KeyFileError::Exists
            | KeyFileError::Write(_) => fault.to_string(),
        };
        ConfigError::of_file(&self.file, problem)
            .at(self.key_file)
            .key_is("identity.key_file")
            .value_is(&format!("\"{}\"", config.key_file.display()))
    }

    /// Refuses a peer that has the node's own key.
    pub(super) fn refuse_self(&self, config: &Config, own: &PeerId) -> Result<(), ConfigError> {
        match config.peers.iter().zip(&self.public_keys).find(|(peer, _)| peer.id == *own) {
            None => Ok(()),
            Some((peer, line)) => {
                Err(ConfigError::of_file(&self.file, "is this node's own key; accepted: the key of the other node")
                    .at(Some(*line))
                    .key_is(format!("peer \"{}\": public_key", peer.name))
                    .value_is(&format!("\"{}\"", key::format_public(own))))
            }
        }
    }
}

/// What earlier peers have taken, and the line or the name to point to.
#[derive(Default)]
struct Taken {
    names: BTreeMap<String, usize>,
    keys: BTreeMap<PeerId, String>,
    prefixes: BTreeMap<IpNet, String>,
}

/// The key of a section of which there is one at most.
fn find<'a>(root: &Section<'a>, section: &str, keys: &[&str], key: &str) -> Result<Option<Item<'a>>, ConfigError> {
    Ok(root.section(section, keys)?.and_then(|section| section.find(key)))
}

fn flag(root: &Section<'_>, section: &str, keys: &[&str], key: &str, default: bool) -> Result<bool, ConfigError> {
    find(root, section, keys, key)?.map_or(Ok(default), |item| item.flag())
}

fn relay(root: &Section<'_>) -> Result<Option<Relay>, ConfigError> {
    let Some(section) = root.section("relay", RELAY_KEYS)? else { return Ok(None) };
    let enabled = section.find("enabled").map_or(Ok(false), |item| item.flag())?;
    // What is written is checked even where it has no effect.
    let max_mbit = section.find("max_mbit").map_or(Ok(DEFAULT_RELAY_MBIT), |item| item.number(1..=100_000))?;
    let max_members = section.find("max_members").map_or(Ok(DEFAULT_RELAY_MEMBERS), |item| number(&item, 1, 10_000))?;
    Ok(enabled.then_some(Relay { max_mbit, max_members }))
}

fn interface(root: &Section<'_>) -> Result<Interface, ConfigError> {
    let Some(section) = root.section("interface", INTERFACE_KEYS)? else {
        return Err(root.refuse(format!("needs a section [interface] with `addresses`: {}", address::ADDRESS)));
    };
    let name = match section.find("name") {
        Some(item) => interface_name(&item)?,
        None => DEFAULT_INTERFACE.to_owned(),
    };
    let item = section.require("addresses", address::ADDRESS)?;
    let mut addresses: Vec<IpNet> = Vec::new();
    for (entry, text) in item.list(address::ADDRESS)? {
        let net = address::address(text).map_err(|problem| entry.refuse(problem))?;
        if addresses.iter().any(|earlier| earlier.addr() == net.addr()) {
            return Err(entry.refuse("stands twice in the list"));
        }
        addresses.push(net);
    }
    if addresses.is_empty() {
        return Err(item.refuse(format!("is empty; accepted: a list of {}", address::ADDRESS)));
    }
    let mtu = section.find("mtu").map_or(Ok(DEFAULT_MTU), |item| number(&item, LEAST_MTU, u16::MAX))?;
    let table = section.find("table").map_or(Ok(DEFAULT_TABLE), |item| table(&item))?;
    let offload = section.find("offload").map_or(Ok(true), |item| item.flag())?;
    let threads = section.find("threads").map_or(Ok(None), |item| number(&item, 1, MAX_THREADS as u16).map(Some))?;
    let dscp = section.find("dscp").map(|item| codepoint::outer_dscp(&item)).transpose()?.unwrap_or_default();
    Ok(Interface { name, addresses, mtu, table, offload, dscp, threads: threads.map(usize::from) })
}

fn interface_name(item: &Item<'_>) -> Result<String, ConfigError> {
    let accepted = "a name of 1 to 15 letters, digits, `.`, `_` or `-` that begins with a letter or digit";
    let name = item.text(accepted)?;
    if RESERVED_INTERFACES.contains(&name) {
        return Err(item.refuse("is a name that Linux keeps for itself; choose another, such as \"hf0\""));
    }
    if !is_name(name, INTERFACE_NAME) {
        return Err(item.refuse(format!("accepted: {accepted}")));
    }
    Ok(name.to_owned())
}

fn table(item: &Item<'_>) -> Result<u32, ConfigError> {
    let number = item.number(1..=LAST_TABLE)?;
    if RESERVED_TABLES.contains(&number) {
        return Err(item.refuse(format!("is a table of the system; accepted: 1 to {LAST_TABLE} but 253, 254 and 255")));
    }
    Ok(number)
}

fn socket(item: &Item<'_>) -> Result<PathBuf, ConfigError> {
    let path = item.path()?;
    if UnixAddr::new(&path).is_err() || path.file_name().is_none() {
        return Err(item
            .refuse("is not a path that a socket can have; accepted: the absolute path of a file, at most 107 bytes"));
    }
    Ok(path)
}

fn peer(section: Section<'_>, interface: &Interface, taken: &mut Taken) -> Result<(Peer, usize), ConfigError> {
    let name_item = section.require("name", "what you call this peer")?;
    let name = entry_name(&name_item)?;
    if let Some(line) = taken.names.insert(name.clone(), name_item.line()) {
        return Err(name_item.refuse(format!("is the name of another peer, at line {line}")));
    }
    let section = section.called(format!("peer \"{name}\""));

    let key_item = section.require("public_key", "the peer's key, as `handfast pubkey` prints it there")?;
    let id = key::parse_public(key_item.text("44 characters of base64, as `handfast pubkey` prints them")?)
        .map_err(|problem| key_item.refuse(problem.to_string()))?;
    if let Some(other) = taken.keys.insert(id, name.clone()) {
        return Err(key_item.refuse(format!("is also the key of peer \"{other}\"")));
    }

    let endpoints = section.find("endpoints").map_or(Ok(Vec::new()), |item| endpoints(&item))?;
    let prefix_item = section.require("prefixes", address::PREFIX)?;
    let prefixes = prefixes(&prefix_item, &name, interface, taken)?;
    let keepalive = match section.find("keepalive") {
        Some(item) => Some(Duration::from_secs(item.number(1..=3600)?.into())),
        None => None,
    };
    Ok((Peer { name, id, endpoints, prefixes, keepalive }, key_item.line()))
}

fn endpoints(item: &Item<'_>) -> Result<Vec<Endpoint>, ConfigError> {
    let mut endpoints = Vec::new();
    for (entry, text) in item.list(address::ENDPOINT)? {
        let endpoint = address::endpoint(text).map_err(|problem| entry.refuse(problem))?;
        if endpoints.contains(&endpoint) {
            return Err(entry.refuse("stands twice in the list"));
        }
        if endpoints.len() == MAX_ENDPOINTS {
            return Err(entry.refuse(format!("is one too many; accepted: at most {MAX_ENDPOINTS} endpoints of a peer")));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

/// A prefix belongs to one peer. A longer one inside another peer's shorter one is no conflict: the longest match decides.
fn prefixes(item: &Item<'_>, name: &str, interface: &Interface, taken: &mut Taken) -> Result<Vec<IpNet>, ConfigError> {
    let mut prefixes = Vec::new();
    for (entry, text) in item.list(address::PREFIX)? {
        let prefix = address::prefix(text).map_err(|problem| entry.refuse(problem))?;
        if interface.addresses.iter().any(|own| IpNet::from(own.addr()) == prefix) {
            return Err(entry.refuse("is this node's own address; accepted: addresses and networks of the peer"));
        }
        if let Some(other) = taken.prefixes.insert(prefix, name.to_owned()) {
            let whose = if other == name {
                "stands twice in the list".to_owned()
            } else {
                format!("belongs to peer \"{other}\" already")
            };
            return Err(entry.refuse(format!(
                "{whose}; accepted: each prefix once (a longer one inside it may be another peer's)"
            )));
        }
        prefixes.push(prefix);
    }
    if prefixes.is_empty() {
        return Err(item.refuse(format!(
            "is empty, so nothing could be sent to this peer; accepted: a list of {}",
            address::PREFIX
        )));
    }
    Ok(prefixes)
}

fn channels(root: &Section<'_>) -> Result<Vec<ChannelRule>, ConfigError> {
    let mut names = BTreeMap::new();
    let mut channels = Vec::new();
    for section in root.sections("channel", CHANNEL_KEYS)? {
        let item = section.require("name", "what you call this channel")?;
        let name = entry_name(&item)?;
        if let Some(line) = names.insert(name.clone(), item.line()) {
            return Err(item.refuse(format!("is the name of another channel, at line {line}")));
        }
        if channels.len() == MAX_CHANNELS {
            return Err(item.refuse(format!("is one too many; accepted: at most {MAX_CHANNELS} channels")));
        }
        let section = section.called(format!("channel \"{name}\""));
        let Some(matches) = section.section("match", flow::MATCH_KEYS)? else {
            return Err(section.refuse(r#"needs the key `match`, such as match = { protocol = "udp", port = 514 }"#));
        };
        channels.push(ChannelRule { name, matches: flow::read(&matches)? });
    }
    Ok(channels)
}

fn entry_name(item: &Item<'_>) -> Result<String, ConfigError> {
    let accepted = "a name of 1 to 63 letters, digits, `.`, `_` or `-` that begins with a letter or digit";
    let name = item.text(accepted)?;
    if !is_name(name, NAME) {
        return Err(item.refuse(format!("accepted: {accepted}")));
    }
    Ok(name.to_owned())
}

fn is_name(name: &str, longest: usize) -> bool {
    name.len() <= longest
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn number(item: &Item<'_>, first: u16, last: u16) -> Result<u16, ConfigError> {
    let number = item.number(first.into()..=last.into())?;
    // The range has 16 bits; `last` stands in for what cannot be.
    Ok(u16::try_from(number).unwrap_or(last))
}
