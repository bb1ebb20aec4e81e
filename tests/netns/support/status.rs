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

    pub fn retransmissions(&self) -> u64 {
        self.0["reliable"]["retransmissions"].as_u64().expect("a count")
    }
}
