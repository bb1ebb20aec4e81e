//! Where the peers may be reached: the addresses of the configuration, and what its names stood for last.

use std::net::SocketAddr;

use crate::base::PeerIndex;
use crate::config::{Endpoint, Peer};
use crate::io::resolve::{Answer, Name};

/// The endpoints of all peers, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Endpoints(Vec<Vec<Place>>);

#[derive(Debug)]
enum Place {
    Fixed(SocketAddr),
    /// What the name stood for when it was last resolved: without DNS that is better than nothing.
    Named(Name, Vec<SocketAddr>),
}

impl Endpoints {
    pub(super) fn new(peers: &[Peer]) -> Self {
        let place = |endpoint: &Endpoint| match endpoint {
            Endpoint::Address(address) => Place::Fixed(*address),
            Endpoint::Name { host, port } => Place::Named(Name { host: host.clone(), port: *port }, Vec::new()),
        };
        Self(peers.iter().map(|peer| peer.endpoints.iter().map(place).collect()).collect())
    }

    /// The names of each peer that has any.
    pub(super) fn names(&self) -> impl Iterator<Item = (PeerIndex, Vec<Name>)> + '_ {
        let names = |place: &Place| match place {
            Place::Fixed(_) => None,
            Place::Named(name, _) => Some(name.clone()),
        };
        (0..).map(PeerIndex).zip(self.0.iter().map(move |places| places.iter().filter_map(names).collect()))
    }

    /// All addresses of a peer. Each endpoint's first one comes before any second: a node greets only some of them (PROTOCOL §13), and one
    /// name shall not crowd out the others.
    pub(super) fn of(&self, peer: PeerIndex) -> Vec<SocketAddr> {
        let places = self.0.get(peer.slot()).map_or(&[][..], Vec::as_slice);
        let deepest = places.iter().map(|place| place.addresses().len()).max().unwrap_or(0);
        let mut all = Vec::new();
        for depth in 0..deepest {
            for address in places.iter().filter_map(|place| place.addresses().get(depth)) {
                if !all.contains(address) {
                    all.push(*address);
                }
            }
        }
        all
    }

    /// Takes an answer in; the addresses of the peer if that changed them.
    pub(super) fn learn(&mut self, answer: Answer) -> Option<Vec<SocketAddr>> {
        let found = match answer.found {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(host = answer.name.host, %error, "a name does not resolve");
                return None;
            }
        };
        let before = self.of(answer.peer);
        for place in self.0.get_mut(answer.peer.slot()).into_iter().flatten() {
            if let Place::Named(name, addresses) = place
                && *name == answer.name
            {
                addresses.clone_from(&found);
            }
        }
        let after = self.of(answer.peer);
        (after != before).then_some(after)
    }
}

impl Place {
    fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Fixed(address) => std::slice::from_ref(address),
            Self::Named(_, addresses) => addresses,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::base::PeerId;

    const PEER: PeerIndex = PeerIndex(0);

    fn endpoints() -> Endpoints {
        let name = |host: &str| Endpoint::Name { host: host.into(), port: 7 };
        Endpoints::new(&[Peer {
            name: "b".into(),
            id: PeerId([0; 32]),
            endpoints: vec![name("x"), Endpoint::Address(address("192.0.2.1:7")), name("y")],
            prefixes: vec![],
            keepalive: None,
        }])
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn answer(host: &str, found: &[&str]) -> Answer {
        let found = found.iter().map(|text| address(text)).collect::<Vec<_>>();
        let found = if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) };
        Answer { peer: PEER, name: Name { host: host.into(), port: 7 }, found }
    }

    #[test]
    fn every_endpoint_comes_with_its_first_address_before_any_second_one() {
        let mut endpoints = endpoints();
        assert_eq!(endpoints.of(PEER), [address("192.0.2.1:7")]);
        endpoints.learn(answer("x", &["192.0.2.2:7", "192.0.2.3:7", "192.0.2.1:7"]));
        let found = endpoints.learn(answer("y", &["192.0.2.4:7", "192.0.2.3:7"]));
        let expected = ["192.0.2.2:7", "192.0.2.1:7", "192.0.2.4:7", "192.0.2.3:7"].map(address);
        assert_eq!(found.unwrap(), expected);
        assert_eq!(endpoints.of(PEER), expected);
    }

    #[test]
    fn a_name_that_fails_keeps_what_it_stood_for() {
        let mut endpoints = endpoints();
        endpoints.learn(answer("x", &["192.0.2.2:7"]));
        endpoints.learn(answer("y", &["192.0.2.4:7"]));
        assert_eq!(endpoints.learn(answer("x", &[])), None);
        let moved = endpoints.learn(answer("y", &["192.0.2.5:7"])).unwrap();
        assert_eq!(moved, ["192.0.2.2:7", "192.0.2.1:7", "192.0.2.5:7"].map(address));
        assert_eq!(endpoints.learn(answer("y", &["192.0.2.5:7"])), None, "nothing has changed");
    }

    #[test]
    fn only_names_are_looked_up() {
        let names: Vec<_> = endpoints().names().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].1.iter().map(|name| &name.host[..]).collect::<Vec<_>>(), ["x", "y"]);
    }
}
