//! Which peer a person means, and what it is called.

use std::net::IpAddr;

use crate::base::PeerIndex;
use crate::config::Peer;
use crate::config::key::format_public;

/// Characters of a public key that name its peer at least: fewer are more likely a name with a slip in it.
const SHORTEST_KEY: usize = 4;
/// Peers that are listed when none of them was meant.
const LISTED: usize = 10;
/// Characters of what the caller wrote that come back in an answer.
const REPEATED: usize = 64;

/// The names of all peers, in the order of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Names<'a>(Vec<&'a str>);

impl<'a> Names<'a> {
    pub(super) fn of_peers(peers: &'a [Peer]) -> Self {
        Self(peers.iter().map(|peer| &peer.name[..]).collect())
    }

    #[cfg(test)]
    pub(super) fn of_test(names: &[&'a str]) -> Self {
        Self(names.to_vec())
    }

    /// What the operator calls a peer.
    pub(super) fn of(&self, peer: PeerIndex) -> &'a str {
        self.0.get(peer.slot()).copied().unwrap_or("an unknown peer")
    }
}

/// The peer that has this name, or whose prefixes hold this address (the longest decides), or whose public key begins so.
///
/// # Errors
/// None, or more than one: a line that says what there is.
pub(super) fn find(peers: &[Peer], text: &str) -> Result<PeerIndex, String> {
    let indexed = || (0..).map(PeerIndex).zip(peers);
    if let Some((index, _)) = indexed().find(|(_, peer)| peer.name == text) {
        return Ok(index);
    }
    let asked: String = text.chars().take(REPEATED).collect();
    if let Ok(address) = text.parse::<IpAddr>() {
        let behind = indexed().flat_map(|(index, peer)| peer.prefixes.iter().map(move |prefix| (index, prefix)));
        let best = behind.filter(|(_, prefix)| prefix.contains(&address)).max_by_key(|(_, prefix)| prefix.prefix_len());
        return best
            .map(|(index, _)| index)
            .ok_or_else(|| format!("no peer has the address {address}; {}", listed(peers.iter())));
    }
    let long_enough = text.chars().count() >= SHORTEST_KEY;
    let matching: Vec<(PeerIndex, &Peer)> =
        indexed().filter(|(_, peer)| long_enough && format_public(&peer.id).starts_with(text)).collect();
    match matching.as_slice() {
        [(index, _)] => Ok(*index),
        [] => Err(format!("there is no peer {asked:?}; {}", listed(peers.iter()))),
        [..] => {
            let meant = listed(matching.iter().map(|(_, peer)| *peer));
            Err(format!("the public keys of several peers begin with {asked:?}; {meant}"))
        }
    }
}

fn listed<'a>(peers: impl ExactSizeIterator<Item = &'a Peer>) -> String {
    let count = peers.len();
    let names: Vec<&str> = peers.take(LISTED).map(|peer| &peer.name[..]).collect();
    match (names.is_empty(), count.saturating_sub(LISTED)) {
        (true, _) => "no peers are configured".to_owned(),
        (false, 0) => format!("there are: {}", names.join(", ")),
        (false, more) => format!("there are: {} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::config::Config;
    use crate::crypto::keys::IdentitySecret;

    fn key(number: u64) -> String {
        format_public(&IdentitySecret::generate(&mut Rng::from_number(number)).id())
    }

    fn peers(count: u64) -> Vec<Peer> {
        let mut text = "[interface]\naddresses = [\"10.77.0.1/16\"]\n".to_owned();
        for number in 0..count {
            text += &format!(
                "[[peer]]\nname = \"p{number}\"\npublic_key = \"{}\"\nprefixes = [\"10.77.{}.0/24\", \"10.77.100.{number}/32\"]\n",
                key(number),
                number + 1
            );
        }
        Config::parse(&text, "t.toml").unwrap().peers
    }

    #[test]
    fn a_peer_is_found_by_name_address_and_beginning_of_its_key() {
        let peers = peers(3);
        for text in ["p1", "10.77.2.9", "10.77.100.1", &key(1)[..8], &key(1)] {
            assert_eq!(find(&peers, text), Ok(PeerIndex(1)), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        assert_eq!(find(&peers(2), "q").unwrap_err(), "there is no peer \"q\"; there are: p0, p1");
        assert_eq!(find(&peers(2), "::1").unwrap_err(), "no peer has the address ::1; there are: p0, p1");
        assert!(find(&peers(2), &key(1)[..3]).is_err(), "three characters are too few");
        assert!(find(&peers(12), "q").unwrap_err().ends_with("p8, p9 and 2 more"));
        assert_eq!(find(&[], "q").unwrap_err(), "there is no peer \"q\"; no peers are configured");
        assert!(find(&[], &"\u{1b}".repeat(4000)).unwrap_err().len() < 1000);
    }

    #[test]
    fn a_key_that_is_not_unique_yet_names_nobody() {
        let mut peers = peers(3);
        peers[2].id = peers[1].id;
        let several = find(&peers, &key(1)[..8]).unwrap_err();
        assert!(several.starts_with("the public keys of several peers begin with") && several.ends_with("p1, p2"));
    }
}
