//! What `handfast status --json` says, asked by name.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

/// The state of a node.
#[derive(Debug)]
pub struct Status(pub Value);

impl Status {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// The peer of that name.
    #[track_caller]
    pub fn peer(&self, name: &str) -> Peer<'_> {
        let peers = self.0["peers"].as_array().expect("peers");
        Peer(peers.iter().find(|peer| peer["name"] == name).unwrap_or_else(|| panic!("no peer {name}: {self:?}")))
    }

    /// Packets dropped for `reason`, by the node and with its peers.
    pub fn drops(&self, reason: &str) -> u64 {
        let count = |place: &Value| place["drops"][reason].as_u64().unwrap_or(0);
        count(&self.0) + self.0["peers"].as_array().expect("peers").iter().map(count).sum::<u64>()
    }
}

/// The state of one peer.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a>(pub &'a Value);

impl Peer<'_> {
    pub fn state(&self) -> &str {
        self.0["state"].as_str().expect("a state")
    }

    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.0["endpoint"].as_str().map(|text| text.parse().expect("an address"))
    }

    pub fn session_age(&self) -> Option<Duration> {
        self.0["session_age_seconds"].as_f64().map(Duration::from_secs_f64)
    }

    /// The paths of its session; the daemon names them with the primary first.
    #[track_caller]
    pub fn paths(&self) -> Vec<Path> {
        self.0["paths"].as_array().into_iter().flatten().map(Path::parse).collect()
    }

    /// Where its packets go.
    #[track_caller]
    pub fn primary(&self) -> Option<Path> {
        self.paths().into_iter().find(|path| path.is_primary)
    }

    pub fn retransmissions(&self) -> u64 {
        self.0["reliable"]["retransmissions"].as_u64().expect("a count")
    }
}

/// Where packets of a path go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    Direct(SocketAddr),
    /// By the peer of that name.
    Relay(String),
}

impl Hop {
    /// As it stands in all answers.
    #[track_caller]
    pub fn parse(hop: &Value) -> Self {
        match (hop["direct"].as_str(), hop["relay"].as_str()) {
            (Some(address), None) => Self::Direct(address.parse().expect("an address")),
            (None, Some(name)) => Self::Relay(name.to_owned()),
            (Some(_), Some(_)) | (None, None) => panic!("no hop: {hop}"),
        }
    }
}

/// One path of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub hop: Hop,
    /// How it came to be known.
    pub kind: String,
    pub is_primary: bool,
    pub is_proven: bool,
}

impl Path {
    #[track_caller]
    fn parse(path: &Value) -> Self {
        Self {
            hop: Hop::parse(&path["hop"]),
            kind: path["kind"].as_str().unwrap_or_else(|| panic!("no kind: {path}")).to_owned(),
            is_primary: path["primary"].as_bool().unwrap_or_else(|| panic!("no primary: {path}")),
            is_proven: path["proven"].as_bool().unwrap_or_else(|| panic!("no proven: {path}")),
        }
    }

    /// The address, if it leads straight there.
    pub fn direct(&self) -> Option<SocketAddr> {
        match &self.hop {
            Hop::Direct(address) => Some(*address),
            Hop::Relay(_) => None,
        }
    }

    /// The peer that relays, if one does.
    pub fn relay(&self) -> Option<&str> {
        match &self.hop {
            Hop::Direct(_) => None,
            Hop::Relay(name) => Some(name),
        }
    }
}
