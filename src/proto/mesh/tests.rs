//! Members that lie, and what it costs those to whom they do.

use std::net::{IpAddr, Ipv6Addr};

use super::*;
use crate::crypto::keys::{EphemeralSecret, IdentitySecret};
use crate::crypto::mesh::{Introduced, PunchedBy};
use crate::crypto::secret::Secret;
use crate::proto::capacity::Capacity;
use crate::proto::command::{NodeConfig, PeerConfig};
use crate::proto::event::Event;
use crate::proto::handshake::{Local, responder};
use crate::proto::hop;
use crate::proto::session::Serial;
use crate::proto::tests::pair::{Pair, Side, address, config, packet};
use crate::wire::frame::IntroductionStatus;
use crate::wire::member::{Candidates, Entry, FOUND, MORE, Source, encode_candidates, encode_entries};
use crate::wire::packet::Packet;

const A: PeerIndex = PeerIndex(0);
const C: PeerIndex = PeerIndex(1);

fn third() -> IdentitySecret {
    IdentitySecret::generate(&mut Rng::from_number(102))
}

/// Both are members of a mesh with a third one, whose address they do not know.
fn members(greeting: &[Side]) -> Pair {
    let mut pair = Pair::with(|side| {
        let mut config: NodeConfig = config(side, greeting.contains(&side));
        let (id, endpoints, prefixes) = (third().id(), Vec::new(), Vec::new());
        config.peers.push(PeerConfig { id, endpoints, prefixes, keepalive: None });
        config
    });
    pair.run(Duration::from_secs(5));
    pair
}

impl Pair {
    /// A control record of A reaches B.
    fn tell_b(&mut self, record: Record<'_>) {
        let now = self.now;
        assert!(self.b.node.handle_mesh_record(now, A, &record.encode()));
        self.b.node.settle(now, A);
        self.drain(Side::B);
    }

    /// An introduction comes to B.
    fn introduce(
        &mut self,
        from: PeerIndex,
        ephemeral: [u8; 32],
        signature: [u8; 64],
        address: SocketAddr,
    ) -> Result<(), Dropped> {
        let now = self.now;
        let introduction = answer::Introduction { number: 1, ephemeral, asker: third().id(), signature, address };
        self.b.node.on_introduction(now, from, &introduction)
    }

    /// A valid one of the third member, by A, with the key of this number.
    fn introduce_third(&mut self, number: u64, address: SocketAddr) -> Result<(), Dropped> {
        let ephemeral = key(number).public();
        let (asker, introducer, target) = (third().id(), self.a.node.id(), self.b.node.id());
        let nonce = self.b.node.mesh.nonce;
        let introduced = Introduced {
            asker: &asker,
            introducer: &introducer,
            target: &target,
            ephemeral: &ephemeral,
            nonce: &nonce,
        };
        let signature = self.b.node.local.net.sign_introduction(&third(), &introduced);
        self.introduce(A, ephemeral, signature, address)
    }

    /// Acknowledgements that wait for A at B.
    fn acknowledged(&mut self) -> Vec<IntroductionStatus> {
        let contact = self.b.node.peers.get_mut(A).unwrap().contact();
        let frames = std::iter::from_fn(|| contact.pop_frame());
        let status = |frame| if let MeshFrame::Acknowledgement { status, .. } = frame { Some(status) } else { None };
        frames.filter_map(status).collect()
    }

    /// Serials of the half-open sessions with the third member at B.
    fn half_open_of_third(&mut self) -> Vec<Serial> {
        let sessions = &self.b.node.peers.get_mut(C).unwrap().sessions;
        sessions.iter().filter(|session| session.is_half_open()).map(|session| session.serial).collect()
    }

    fn contact_of_third(&mut self) -> &mut Contact {
        self.b.node.peers.get_mut(C).unwrap().contact()
    }

    /// Datagrams that went to somebody else than the two.
    fn astray(&self) -> usize {
        let known = [Side::A, Side::B].map(address);
        self.log.iter().filter(|datagram| !known.contains(&datagram.to)).count()
    }
}

fn key(number: u64) -> EphemeralSecret {
    EphemeralSecret::generate(&mut Rng::from_number(7000 + number))
}

fn somewhere(number: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, (number / 200) as u8], 1000 + number))
}

#[test]
fn a_session_that_is_held_and_was_used_once_lets_the_node_sleep() {
    let mut pair = members(&[Side::A, Side::B]);
    pair.send(Side::A, &packet(Side::A, b"once")).unwrap();
    pair.run(Duration::from_secs(150));
    pair.wakes = 0;
    pair.run(Duration::from_secs(60));
    assert!(pair.wakes < 200, "{} wakes in a minute", pair.wakes);
}

#[test]
fn a_list_that_nobody_asked_for_keeps_nobody_busy() {
    let mut pair = members(&[Side::A]);
    assert!(!pair.b.node.peers.get_mut(A).unwrap().is_standing());
    pair.tell_b(Record::PeersList { version: 1, flags: MORE, entries: entries(&[]) });
    pair.wakes = 0;
    pair.run(Duration::from_secs(10));
    assert!(pair.wakes < 100, "{} wakes in ten seconds", pair.wakes);
}

fn entries(bytes: &[u8]) -> crate::wire::member::Entries<'_> {
    let record: Vec<u8> = [&[0x06, 0, 0, 0, 0, 0][..], bytes].concat();
    let Ok(Record::PeersList { entries, .. }) = Record::decode(Box::leak(record.into_boxed_slice())) else { panic!() };
    entries
}

#[test]
fn a_peer_that_sees_this_node_elsewhere_all_the_time_is_not_told_to_everybody_each_time() {
    let mut pair = members(&[Side::A]);
    let sent = pair.log.len();
    for number in 0..100 {
        pair.tell_b(Record::About { flags: 2, nonce: &[1; 16], seen: somewhere(number) });
        pair.run(Duration::from_millis(10));
    }
    assert!(pair.log.len() - sent < 20, "{} datagrams", pair.log.len() - sent);
    pair.run(Duration::from_secs(120));
    let candidates = pair.b.node.own_candidates(A);
    assert_eq!(pair.b.node.peers.get_mut(A).unwrap().contact().candidates, Some(candidates), "the last word is told");
}

#[test]
fn a_peer_that_relays_more_and_less_all_the_time_is_not_listened_to() {
    let mut pair = members(&[Side::A]);
    for number in 0..100u8 {
        pair.tell_b(Record::About { flags: 3 | number << 4, nonce: &[1; 16], seen: somewhere(1) });
        pair.run(Duration::from_millis(10));
    }
    let peer = pair.b.node.peers.get_mut(A).unwrap();
    let ignored = peer.drops.of(Dropped::RateLimited);
    assert!(ignored >= 90, "{ignored}: each change is work for all sessions");
    pair.run(Duration::from_secs(2));
    pair.tell_b(Record::About { flags: 0x93, nonce: &[1; 16], seen: somewhere(1) });
    let peer = pair.b.node.peers.get_mut(A).unwrap();
    assert_eq!(peer.relay_capacity(), Some(Capacity::from_flags(0x90)), "later it is");
}

#[test]
fn candidates_without_end_are_pinged_at_a_walk() {
    let mut pair = members(&[Side::A]);
    for number in 0..100u16 {
        let told: Vec<_> = (0..16).map(|port| (somewhere(number * 16 + port), Source::Local)).collect();
        pair.tell_b(Record::Candidates(Candidates::new(&encode_candidates(&told))));
        pair.now += Duration::from_millis(10);
    }
    assert!(pair.astray() <= 64 + 20, "{} in a second", pair.astray());
}

#[test]
fn forged_introductions_do_not_use_up_what_an_address_may_get() {
    let mut pair = members(&[Side::A]);
    for number in 0..9 {
        let result = pair.introduce(A, [number; 32], [number; 64], somewhere(1));
        assert_eq!(result, Err(Dropped::BadSignature));
    }
    pair.now += Duration::from_millis(200);
    assert_eq!(pair.introduce_third(1, somewhere(1)), Ok(()));
}

#[test]
fn a_token_that_somebody_copies_sends_nothing_to_the_world() {
    let mut pair = members(&[Side::A]);
    let until = pair.now + Duration::from_secs(60);
    pair.b.node.mesh.tokens.insert([9; 32], Token { peer: A, asked: true, until });
    for number in 0..1000 {
        let now = pair.now;
        assert!(pair.b.node.on_token(now, Link::to(somewhere(number)), &[9; 32]));
        pair.drain(Side::B);
        pair.now += Duration::from_millis(1);
    }
    assert!(pair.astray() <= 8, "{} in a second", pair.astray());
}

#[test]
fn what_nobody_asked_for_is_not_remembered_of_a_member() {
    let mut pair = members(&[Side::A]);
    let known = Entry {
        id: third().id(),
        address: somewhere(1),
        connected: true,
        relays: false,
        claimed: false,
        nonce: [1; 16],
    };
    let bytes = encode_entries(&[known]);
    pair.tell_b(Record::PeersList { version: 0, flags: FOUND, entries: entries(&bytes) });
    assert_eq!(pair.contact_of_third().addresses, []);
    let now = pair.now;
    assert_eq!(pair.contact_of_third().nonce(now), None);
}

#[test]
fn nobody_is_looked_for_where_nobody_can_be() {
    let mut contact = Contact::default();
    let everywhere = ["127.0.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "0.0.0.0:1", "[::1]:1", "[ff02::1]:1"];
    for address in everywhere {
        contact.on_address(address.parse().unwrap());
    }
    contact.on_address(hop::relayed(A, 7));
    assert_eq!(contact.addresses, []);
    contact.on_address(somewhere(1));
    contact.on_address("192.168.1.7:1".parse().unwrap());
    assert_eq!(contact.addresses.len(), 2);
}

#[test]
fn a_relay_cannot_say_that_one_member_is_another() {
    let mut pair = members(&[Side::A]);
    pair.seal_ping(Side::A);
    let datagram = pair.wire.pop_back().unwrap();
    let own = pair.b.node.local.net.tag(&pair.a.node.id());
    let now = pair.now;
    let mut arrive = |tag| {
        let mut tx = crate::proto::tests::pair::Outbox::default();
        let mut tun = crate::proto::tests::pair::Inbox::default();
        let mut bytes = datagram.bytes.clone();
        pair.b.node.take_datagram(now, Link::to(hop::relayed(C, tag)), &mut bytes, &mut tx, &mut tun)
    };
    assert!(arrive(own ^ 1).is_err());
    assert_eq!(arrive(own), Ok(()));
}

#[test]
fn the_relayed_hops_of_two_relays_are_two_neighbourhoods() {
    let prefix = |relay| match hop::relayed(PeerIndex(relay), 1).ip() {
        IpAddr::V6(ip) => ip.octets()[..7].to_vec(),
        IpAddr::V4(_) => Vec::new(),
    };
    assert_ne!(prefix(1), prefix(2), "floods through one relay must not use up the allowance of the other");
    assert_eq!(hop::through(hop::relayed(PeerIndex(0x0102_0304), 9)), Some((PeerIndex(0x0102_0304), 9)));
    assert_eq!(hop::through(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 1)), None);
}

/// What a member may have this node do by asking for ports to be tried, if it is not as it says.
#[test]
fn a_search_that_is_asked_for_where_there_is_no_need_is_refused_and_answers_to_none_count_for_nothing() {
    use crate::wire::record::SprayState;
    let mut pair = members(&[Side::A]);
    let now = pair.now;
    let mut say = |state| pair.b.node.on_spray(now, A, state, &[7; 32]);
    assert_eq!(say(SprayState::Asked), Err(Dropped::Ignored), "the session is direct, and who knows what NAT there is");
    assert_eq!(say(SprayState::Agreed), Err(Dropped::Unexpected));
    assert_eq!(say(SprayState::Refused), Err(Dropped::Unexpected));
    assert_eq!(pair.b.node.on_spray(now, PeerIndex(9), SprayState::Asked, &[7; 32]), Err(Dropped::UnknownPeer));
    assert!(!pair.b.node.on_sprayed(now, Link::to(somewhere(1)), &[7; 32]), "nothing is waited for");
    assert!(std::iter::from_fn(|| pair.b.node.poll_event()).all(|event| !matches!(event, Event::OpenSockets { .. })));
    assert_eq!(pair.astray(), 0);
}

#[test]
fn a_second_key_of_an_asker_is_acknowledged_as_often_as_it_comes() {
    let mut pair = members(&[Side::A]);
    for (number, place) in [(1, 1), (2, 300), (2, 300), (1, 1), (2, 500)] {
        assert_eq!(pair.introduce_third(number, somewhere(place)), Ok(()));
        assert_eq!(pair.acknowledged(), [IntroductionStatus::Accepted], "key {number} from {place}");
    }
    assert_eq!(pair.half_open_of_third().len(), 1);
    let answering = pair.contact_of_third().answering.as_ref().unwrap();
    assert!(answering.addresses.contains(&somewhere(500)), "a further address of the second introducer");
}

#[test]
fn an_introduction_that_was_held_back_does_not_end_the_session_that_another_has_begun() {
    let mut pair = members(&[Side::A]);
    assert_eq!(pair.introduce_third(1, somewhere(1)), Ok(()));
    let begun = pair.half_open_of_third();
    // The asker was heard in it, so that the answer is not repeated any more.
    pair.b.node.on_introduced(C, begun[0]);
    for number in 2..5 {
        pair.now += Duration::from_secs(1);
        assert_eq!(pair.introduce_third(number, somewhere(1)), Ok(()));
        assert_eq!(pair.half_open_of_third(), begun, "after {number} keys");
    }
    // By then the asker has given it up.
    pair.now += Duration::from_secs(3);
    assert_eq!(pair.introduce_third(9, somewhere(1)), Ok(()));
    assert_ne!(pair.half_open_of_third(), begun);
}

#[test]
fn an_answer_ends_with_its_half_open_session() {
    let mut pair = members(&[Side::A]);
    assert_eq!(pair.introduce_third(1, somewhere(1)), Ok(()));
    pair.drain(Side::B);
    assert!(pair.contact_of_third().answering.is_some());
    let (now, serial) = (pair.now, pair.half_open_of_third()[0]);
    pair.b.node.peers.get_mut(C).unwrap().remove(now, serial);
    pair.b.node.settle(now, C);
    pair.drain(Side::B);
    assert!(pair.contact_of_third().answering.is_none());
    let sent = pair.astray();
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.astray(), sent);
}

#[test]
fn one_asker_does_not_fill_the_table_of_keys() {
    let mut pair = members(&[Side::A]);
    for number in 0..400 {
        pair.now += Duration::from_millis(1500);
        let _ = pair.introduce_third(number, somewhere(number as u16));
    }
    assert_eq!(pair.b.node.mesh.seen.len(), 256);
    pair.now += SEEN;
    let now = pair.now;
    pair.b.node.forget_keys(now);
    assert_eq!((pair.b.node.mesh.seen.len(), pair.contact_of_third().seen_keys), (0, 0));
    assert_eq!(pair.introduce_third(1000, somewhere(1)), Ok(()));
}

#[test]
fn addresses_cost_who_names_them_as_much_as_they_have_sent() {
    let mut pair = members(&[Side::A]);
    // Little by little, for a long time: one record in ten seconds, while the peer says nothing else.
    let records = 500u16;
    for number in 0..records {
        let told: Vec<_> = (0..16).map(|port| (somewhere(number * 16 + port), Source::Local)).collect();
        pair.tell_b(Record::Candidates(Candidates::new(&encode_candidates(&told))));
        pair.run(Duration::from_secs(10));
    }
    let received = pair.b.node.peers.get_mut(A).unwrap().received() as usize;
    let pings = pair.astray();
    assert!(pings <= 48 * 6 + received, "{pings} pings for {received} datagrams in {records} records");
}

#[test]
fn addresses_that_never_answer_are_not_asked_again_for_nothing() {
    let mut pair = members(&[Side::A]);
    let told: Vec<_> = (0..8).map(|port| (somewhere(port), Source::Local)).collect();
    for _ in 0..2000 {
        pair.tell_b(Record::Candidates(Candidates::new(&encode_candidates(&told))));
        pair.run(Duration::from_millis(300));
    }
    let received = pair.b.node.peers.get_mut(A).unwrap().received() as usize;
    assert!(pair.astray() <= 48 * 6 + received, "{} pings for {received} datagrams", pair.astray());
}

#[test]
fn who_is_far_away_does_not_have_the_own_network_looked_at_and_who_is_near_is_believed() {
    for is_near in [false, true] {
        let mut pair = members(&[Side::A]);
        let (own, private): (SocketAddr, SocketAddr) =
            ("192.168.1.5:18502".parse().unwrap(), "192.168.1.7:18502".parse().unwrap());
        pair.command(Side::B, crate::proto::Command::SetLocal { addresses: vec![(own, CandidateKind::Local)] });
        // Seen at the address from which A is heard, or at another one.
        let seen = if is_near { SocketAddr::new(address(Side::A).ip(), 99) } else { somewhere(1) };
        pair.tell_b(Record::About { flags: 2, nonce: &[1; 16], seen });
        // A claims to be seen where this node is, which is easily said.
        let told = [(private, Source::Local), (seen, Source::Observed)];
        pair.tell_b(Record::Candidates(Candidates::new(&encode_candidates(&told))));
        let introduced = pair.introduce_third(1, private);
        pair.run(Duration::from_secs(3));
        let sent = pair.log.iter().filter(|datagram| datagram.to == private).count();
        assert_eq!(sent > 0, is_near, "{sent} datagrams");
        assert_eq!(introduced, if is_near { Ok(()) } else { Err(Dropped::Ignored) });
    }
}

#[test]
fn an_introducer_that_hears_somebody_behind_the_own_router_is_believed_about_its_private_addresses() {
    let mut pair = members(&[Side::A]);
    pair.tell_b(Record::About { flags: 2, nonce: &[1; 16], seen: somewhere(1) });
    let private: SocketAddr = "10.1.2.3:18502".parse().unwrap();
    assert!(!pair.b.node.may_use(private, A, C));
    pair.contact_of_third().on_heard_at(somewhere(2));
    assert!(pair.b.node.may_use(private, A, C), "on another subnet of the same site");
    pair.contact_of_third().on_heard_at(somewhere(900));
    assert!(!pair.b.node.may_use(private, A, C));
}

#[test]
fn all_members_together_have_few_datagrams_sent_to_one_address() {
    let mut pair = members(&[Side::A]);
    for _ in 0..100 {
        for number in 0..100 {
            pair.b.node.mesh.post_token(Link::to(somewhere(number)), &[number as u8; 32]);
        }
        pair.run(Duration::from_millis(100));
    }
    assert!(pair.astray() <= 256 + 40 * 10, "{} in ten seconds", pair.astray());
}

#[test]
fn pieces_of_one_member_do_not_crowd_out_those_of_another_behind_the_same_relay() {
    let mut pair = members(&[Side::A]);
    let now = pair.now;
    let mut arrive = |tag, number, index| {
        let (mut tx, mut tun) =
            (crate::proto::tests::pair::Outbox::default(), crate::proto::tests::pair::Inbox::default());
        let frame = MeshFrame::RelayedPart { hops: 0, tag, number, index, count: 2, data: vec![9; 1000] };
        pair.b.node.on_relayed(now, A, Link::to(address(Side::A)), frame, &mut tx, &mut tun)
    };
    assert_eq!(arrive(1, 5, 0), Ok(()));
    for number in 0..500 {
        assert_eq!(arrive(2, number, 0), Ok(()), "begun and never ended");
    }
    // With a number that falls together with that of the other.
    assert_eq!(arrive(2, 5 ^ 1 ^ 2, 1), Ok(()));
    assert_eq!(arrive(1, 5, 1), Err(Dropped::Malformed), "it is whole, and means nothing");
}

#[test]
fn a_time_that_is_over_does_not_keep_the_node_busy_while_a_session_is_pending_or_after_the_end() {
    let mut pair = Pair::with(|side| config(side, side == Side::A));
    // The answer arrives, and nothing after it.
    pair.run_with(Duration::from_secs(2), |datagram| datagram.bytes[1] != 0x10);
    let (now, holding) = (pair.now, pair.a.node.peers.holding);
    let peer = pair.a.node.peers.get_mut(PeerIndex(0)).unwrap();
    assert!(peer.has_pending());
    peer.set_standing(true);
    peer.on_not_found(now - Duration::from_secs(31), false);
    assert!(peer.deadline(holding).is_none_or(|at| at > now), "an attempt would be no use yet");
    peer.sessions.clear();
    assert!(peer.deadline(holding).is_some_and(|at| at <= now));
    peer.stop();
    assert!(peer.deadline(holding).is_none_or(|at| at > now));
}

#[test]
fn what_is_heard_on_a_link_is_greeted_last_and_displaces_nothing() {
    let mut pair = members(&[Side::A, Side::B]);
    let (now, id) = (pair.now, pair.a.node.id());
    let session = |pair: &mut Pair| pair.b.node.peers.get_mut(A).unwrap().sessions[0].path.status(now);
    for number in 0..20 {
        let peer = pair.b.node.peers.get_mut(A).unwrap();
        peer.sessions[0].path.add(now, Link::to(somewhere(number)), CandidateKind::Observed);
    }
    let before = session(&mut pair);
    for number in 0..8 {
        let (n, host) = ([number as u8; 16], SocketAddr::from(([192, 168, 7, number as u8], 18502)));
        let mac = pair.b.node.local.net.announcement_mac(&id, &n);
        let datagram = encode_cookie_packet(CookieKind::Ping, &[n, mac].concat().try_into().unwrap());
        pair.b.node.on_announced(now, host, &datagram);
    }
    assert_eq!(session(&mut pair), before, "a full table stays as it is");
    let greeted = pair.b.node.peers.get_mut(A).unwrap().greetable();
    assert_eq!(greeted[0], address(Side::A));
    assert_eq!(greeted.len(), 3, "{greeted:?}");
}

/// B looks for the third member, and A has said that it is at `somewhere(1)`: the request that leaves.
fn request(pair: &mut Pair) -> ([u8; 32], [u8; 64], [u8; 16]) {
    let (now, nonce) = (pair.now, [3; 16]);
    let node = &mut pair.b.node;
    node.peers.get_mut(C).unwrap().begin_attempt(now, &mut node.rng, &mut node.events);
    node.settle(now, C);
    pair.drain(Side::B);
    let (id, address) = (third().id(), somewhere(1));
    let bytes = encode_entries(&[Entry { id, address, connected: true, relays: false, claimed: false, nonce }]);
    let record = Record::PeersList { version: 0, flags: FOUND, entries: entries(&bytes) }.encode();
    assert!(pair.b.node.handle_mesh_record(now, A, &record));
    let frame = pair.b.node.peers.get_mut(A).unwrap().contact().pop_frame();
    let Some(MeshFrame::Request { ephemeral, signature, .. }) = frame else { panic!("{frame:?}") };
    (ephemeral, signature, nonce)
}

#[test]
fn forged_answers_of_strangers_do_not_keep_the_true_one_from_being_examined() {
    for place in [1, 500] {
        let mut pair = members(&[Side::A]);
        let (ephemeral, signature, nonce) = request(&mut pair);
        let (asker, introducer, target) = (pair.b.node.id(), pair.a.node.id(), third().id());
        let net = Net::new(&Secret::fill(|psk| psk.fill(0)));
        let introduced = Introduced {
            asker: &asker,
            introducer: &introducer,
            target: &target,
            ephemeral: &ephemeral,
            nonce: &nonce,
        };
        let hash = net.introduction_hash(&introduced, &signature);
        let token = net.punch_token(&ephemeral, &asker, &target, PunchedBy::Target);
        let local = Local::new(third(), net, false, 1228);
        let accepted = responder::answer_to(&local, &asker, &ephemeral, &hash, &mut Rng::from_number(5)).unwrap();
        let now = pair.now;
        let mut forged = accepted.answer;
        forged[140] ^= 1;
        let answer = |pair: &mut Pair, from, bytes: &[u8]| {
            let Ok(Packet::HelloAnswer(hello)) = Packet::decode(bytes) else { panic!("an answer") };
            pair.b.node.handle_introduced_answer(now, Link::to(from), &hello)
        };
        let results: Vec<_> = (0..100).map(|number| answer(&mut pair, somewhere(600 + number), &forged)).collect();
        assert!(results.contains(&Err(Dropped::RateLimited)));
        // From where introducers say that it is, or from where its token came.
        let from = somewhere(place);
        assert!(pair.b.node.on_token(now, Link::to(from), &token));
        assert_eq!(answer(&mut pair, from, &accepted.answer), Ok(()));
        assert!(pair.b.node.peers.get_mut(C).unwrap().has_pending());
    }
}

#[test]
fn a_search_ends_when_the_paths_are_back() {
    let mut pair = members(&[Side::A, Side::B]);
    let cut = |pair: &mut Pair, seconds, passes: bool| {
        for _ in 0..seconds * 10 {
            let _ = pair.send(Side::B, &packet(Side::B, b"there?"));
            pair.run_with(Duration::from_millis(100), |_| passes);
        }
    };
    cut(&mut pair, 3, false);
    assert!(!pair.b.node.peers.get_mut(A).unwrap().is_reached());
    cut(&mut pair, 2, true);
    assert!(pair.b.node.peers.get_mut(A).unwrap().is_reached());
}
