//! A node among members that mean harm; used by the fuzz target and by the tests that replay its corpus.
//!
//! Two members with sessions of their own, and with all keys but those of the node, play together: one introduces the other, both say of themselves and of others what they like,
//! and have datagrams carried to each other and to the node. Whatever they do: no panic, no timer that never rests, no growth, and nothing goes to strangers beyond the bounds of
//! PROTOCOL §12.3.
#![expect(clippy::panic, reason = "a check that fails panics")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use handfast::base::{PeerId, Rng};
use handfast::crypto::keys::EphemeralSecret;
use handfast::crypto::mesh::{Introduced, PunchedBy};
use handfast::crypto::schedule::Net;
use handfast::crypto::secret::Secret;
use handfast::proto::{CandidateKind, Command, Node, NodeConfig, PeerConfig, RelayLimits};
use handfast::wire::{
    CookieKind, Frame, HelloKind, IntroductionStatus, Packet, Record, encode_cookie_packet, encode_hello,
};

use crate::node::{
    Inbox, Insider, Keys, MOST_STATE, NODE, Outbox, Script, address, data_packet, identity, ip_packet, overlay, start,
};

/// Part frames, probes and the mesh.
const CAPS: u32 = 0x16;
/// The sides of the two; the member on side 3 is honest and away.
const MEMBERS: [usize; 2] = [0, 2];
const AWAY: usize = 3;

/// Introductions to one address: burst, and for each second (PROTOCOL §12.3).
const TO_ONE_ADDRESS: u64 = 16;
const TO_ONE_ADDRESS_A_SECOND: u64 = 2;
/// New addresses that one member may say it has.
const NEW_ADDRESSES: u64 = 48;
/// Introductions of one asker.
const OF_ONE_ASKER: u64 = 4;
/// Addresses that one introduction may name.
const ADDRESSES: u64 = 16;
/// Ports that one search tries, and searches that find nothing in a minute.
const PORTS: u64 = 2048;
/// How often one answer leaves: five times, and once more when an address joins.
const ANSWERS: u64 = 6;

fn net() -> Net {
    Net::new(&Secret::fill(|psk| psk.fill(0)))
}

fn node(now: std::time::Instant) -> Node {
    let peer = |side: usize, endpoints: Vec<SocketAddr>| PeerConfig {
        id: identity(side).id(),
        endpoints,
        prefixes: vec![IpAddr::V4(overlay(side)).into()],
        keepalive: None,
    };
    let config = NodeConfig {
        peers: vec![peer(0, vec![address(0)]), peer(2, Vec::new()), peer(AWAY, Vec::new())],
        addresses: vec![IpAddr::V4(overlay(NODE))],
        relay: Some(RelayLimits { bytes_per_second: 100_000, members: 2 }),
        ..NodeConfig::default()
    };
    let mut node = Node::new(config, identity(NODE), Rng::from_number(5), now);
    let local = vec![(SocketAddr::from(([10, 0, 0, 1], 18502)), CandidateKind::Local)];
    node.handle_command(now, Command::SetLocal { addresses: local });
    node
}

/// One of the two.
struct Member {
    side: usize,
    keys: Keys,
    /// The next message on channel 0.
    sequence: u32,
}

/// The two, and what they have learned and done.
struct Stage {
    node: Insider,
    members: Vec<Member>,
    /// What the node gave out for introductions.
    nonce: [u8; 16],
    rng: Rng,
    seconds: u64,
    /// Hello answers that went to each stranger.
    answers: BTreeMap<IpAddr, u64>,
    /// What was to make the node ping strangers: records of candidates, and lists of addresses.
    named: u64,
    introductions: u64,
    searches: u64,
    /// The node was asked to try ports.
    sprays: u64,
    /// Datagrams to strangers.
    strange: u64,
}

impl Stage {
    fn new() -> Self {
        let now = start();
        let mut node = Insider::new(now, node(now));
        let mut rng = Rng::from_number(9);
        let mut members = Vec::new();
        for side in MEMBERS {
            let (zero, keys, finish) = node.shake_hands(side, CAPS, &mut rng);
            let sequence = 1 + finish.len() as u32;
            finish.iter().for_each(|plaintext| node.deliver(side, zero.seal(plaintext)));
            members.push(Member { side, keys, sequence });
        }
        let mut stage = Self {
            node,
            members,
            nonce: [0; 16],
            rng,
            seconds: 1,
            answers: BTreeMap::new(),
            named: 0,
            introductions: 0,
            searches: 0,
            sprays: 0,
            strange: 0,
        };
        for who in 0..MEMBERS.len() {
            // The first packet in epoch 1 lets the node leave epoch 0.
            stage.say(who, &[1, 3, 0]);
        }
        stage
    }

    /// Seals one packet of a member.
    fn say(&mut self, who: usize, plaintext: &[u8]) {
        let Some(member) = self.members.get(who) else { return };
        let (side, datagram) = (member.side, member.keys.seal(plaintext));
        self.node.deliver(side, datagram);
        self.look();
    }

    fn say_frame(&mut self, who: usize, frame: &Frame<'_>) {
        self.say(who, &data_packet(frame));
    }

    /// One control record of a member, in order.
    fn say_record(&mut self, who: usize, record: &[u8]) {
        let Some(member) = self.members.get_mut(who) else { return };
        let data = [&(record.len() as u16).to_be_bytes()[..], record].concat();
        let sequence = member.sequence;
        member.sequence += 1;
        self.say_frame(who, &Frame::ReliableData { channel: 0, sequence, ack: 1, data: &data });
    }

    /// What the node has sent: the nonce is learned from it, and what goes to strangers is counted.
    fn look(&mut self) {
        for (to, mut bytes) in std::mem::take(&mut self.node.sent) {
            if let Some(member) = self.members.iter().find(|member| address(member.side) == to) {
                if let Some(nonce) = nonce_in(&member.keys, &mut bytes) {
                    self.nonce = nonce;
                }
                continue;
            }
            assert!(!to.ip().is_multicast() && !to.ip().is_unspecified(), "a datagram to {to}");
            assert!(to.port() != 0 && !to.ip().is_loopback(), "a datagram to {to}");
            self.strange += 1;
            if bytes.get(1) == Some(&0x81) {
                let answers = self.answers.entry(to.ip()).or_default();
                *answers += 1;
                let bucket = TO_ONE_ADDRESS + TO_ONE_ADDRESS_A_SECOND * self.seconds;
                assert!(*answers <= ANSWERS * ADDRESSES * bucket, "{answers} answers to {to}");
            }
        }
        let askers = MEMBERS.len() as u64 * (OF_ONE_ASKER + self.seconds);
        let answers: u64 = self.answers.values().sum();
        assert!(answers <= ANSWERS * ADDRESSES * askers, "{answers} answers in {} s", self.seconds);
        // A member may name so many new addresses, and each is pinged a few times.
        let named = (24 * self.named).min(MEMBERS.len() as u64 * (NEW_ADDRESSES + 2 * self.seconds));
        // To each address that is named: a token and an answer each time, an offer that is repeated, and pings.
        let bound = 40 * self.introductions
            + 8 * named
            + 16 * 8 * 12 * self.searches
            + PORTS * self.sprays.min(1 + self.seconds / 60);
        assert!(self.strange <= bound, "{} datagrams to strangers, {bound} at most", self.strange);
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.node.now + duration;
        self.seconds += duration.as_secs() + 1;
        for _ in 0..5_000 {
            let Some(next) = self.node.node.poll_timeout().filter(|&at| at <= end) else {
                self.node.now = end;
                return;
            };
            self.node.now = self.node.now.max(next);
            self.node.node.handle_timeout(self.node.now);
            self.node.drain(Outbox::default());
            self.look();
        }
        panic!("timers never rest");
    }

    /// An introduction with the right signature, or almost: the other member wants to reach the node, says this one.
    fn introduce(&mut self, who: usize, script: &mut Script<'_>) {
        let (introducer, asker) = (identity(MEMBERS[who]), identity(MEMBERS[1 - who]));
        let seed = script.byte();
        let ephemeral = EphemeralSecret::generate(&mut Rng::from_number(u64::from(seed))).public();
        let introduced = Introduced {
            asker: &asker.id(),
            introducer: &introducer.id(),
            target: &identity(NODE).id(),
            ephemeral: &ephemeral,
            nonce: &self.nonce,
        };
        let mut signature = net().sign_introduction(&asker, &introduced);
        let flaw = script.byte();
        if flaw & 0x0f == 0x0f {
            signature[usize::from(flaw >> 4)] ^= 1;
        }
        let (target, number) = (asker.id(), u32::from(seed));
        for _ in 0..1 + (flaw >> 4 & 3) {
            let (address, port) = place(script);
            self.introductions += 1;
            self.say_frame(
                who,
                &Frame::Introduction {
                    channel: 0,
                    sequence: number,
                    ack: 0,
                    ephemeral: &ephemeral,
                    target,
                    signature: &signature,
                    address,
                    port,
                },
            );
        }
        if flaw & 0x80 != 0 {
            let token = net().punch_token(&ephemeral, &asker.id(), &identity(NODE).id(), PunchedBy::Asker);
            self.node.deliver(MEMBERS[1 - who], encode_cookie_packet(CookieKind::Ping, &token).to_vec());
            self.look();
        }
    }

    /// A datagram that is to be carried on, or that claims to have been.
    fn relay(&mut self, who: usize, script: &mut Script<'_>) {
        let (hops, kind) = (script.byte() % 3, script.byte());
        let whose = [MEMBERS[0], MEMBERS[1], AWAY, NODE][usize::from(kind & 3)];
        let tag = net().tag(&identity(whose).id());
        let datagram = match kind >> 2 & 3 {
            0 => {
                let (id, to) = (identity(AWAY).id(), identity(NODE).id());
                let public = EphemeralSecret::generate(&mut self.rng).public();
                encode_hello(HelloKind::Hello, &public, &id, &[7; 64], &net().mac1(&to, &public, &id)).to_vec()
            }
            1 => {
                // Sealed by the other, who may again relay in it.
                let inner = Frame::Relayed { channel: 128, hops: 0, tag, datagram: script.take(40) };
                self.members.get(1 - who).map(|other| other.keys.seal(&data_packet(&inner))).unwrap_or_default()
            }
            2 => vec![kind; script.number() % 1180],
            _ => {
                let len = usize::from(script.byte());
                script.take(len).to_vec()
            }
        };
        if kind & 0x10 == 0 {
            self.say_frame(who, &Frame::Relayed { channel: 128, hops, tag, datagram: &datagram });
            return;
        }
        let (number, count) = (u32::from(script.byte()), script.byte());
        for (index, data) in (0..=u8::MAX).zip(datagram.chunks(datagram.len().div_ceil(2).max(1))) {
            self.say_frame(who, &Frame::RelayedPart { channel: 128, hops, tag, number, index, count, data });
        }
    }

    /// What one member says of itself or of others.
    fn tell(&mut self, who: usize, script: &mut Script<'_>) {
        let kind = script.byte();
        let body = match kind & 7 {
            0 => {
                let len = script.number() % 1180;
                [&[6 + (kind >> 3 & 3)], script.take(len)].concat()
            }
            1 | 2 => {
                let mut body = vec![9];
                for _ in 0..kind >> 3 & 15 {
                    let (address, port) = place(script);
                    body.extend_from_slice(&address.octets());
                    body.extend_from_slice(&port.to_be_bytes());
                    body.push(script.byte() % 3);
                }
                body
            }
            3 => {
                let (address, port) = place(script);
                let nonce = [script.byte(); 16];
                [&[8, script.byte()][..], &nonce, &address.octets(), &port.to_be_bytes()].concat()
            }
            7 => {
                self.sprays += 1;
                let token = [script.byte(); 32];
                [&[10, kind >> 3 & 3][..], &token].concat()
            }
            4 => [[7].as_slice(), &identity(MEMBERS[1 - who]).id().0, &identity(AWAY).id().0, script.take(32)].concat(),
            _ => {
                let mut body = vec![6, 0, 0, 0, script.byte(), script.byte()];
                for _ in 0..kind >> 3 & 7 {
                    let id = [MEMBERS[1 - who], AWAY, NODE][usize::from(script.byte() % 3)];
                    let (address, port) = place(script);
                    body.extend_from_slice(&identity(id).id().0);
                    body.extend_from_slice(&address.octets());
                    body.extend_from_slice(&port.to_be_bytes());
                    body.push(script.byte());
                    body.extend_from_slice(&[script.byte(); 16]);
                }
                body
            }
        };
        self.named += 1;
        // What is not laid out as it must be ends the session; that is what `insider` is for.
        if Record::decode(&body).is_ok() {
            self.say_record(who, &body);
        }
    }

    fn ask(&mut self, who: usize, script: &mut Script<'_>) {
        let (kind, number) = (script.byte(), u32::from(script.byte()));
        match kind & 3 {
            0 => {
                let target = match kind >> 2 & 3 {
                    0 => identity(MEMBERS[1 - who]).id(),
                    1 => identity(AWAY).id(),
                    2 => identity(NODE).id(),
                    _ => PeerId([kind; 32]),
                };
                let (ephemeral, signature) = ([kind; 32], [script.byte(); 64]);
                self.say_frame(
                    who,
                    &Frame::IntroductionRequest {
                        channel: 0,
                        sequence: number,
                        ack: 0,
                        ephemeral: &ephemeral,
                        target,
                        signature: &signature,
                    },
                );
            }
            1 => self.say_frame(who, &Frame::PeersListRequest { channel: 0, sequence: number, ack: kind.into() }),
            _ => {
                let status = IntroductionStatus::from_byte(kind >> 2 & 7).unwrap_or(IntroductionStatus::Accepted);
                self.say_frame(who, &Frame::IntroductionAck { channel: 0, sequence: 0, ack: number, status });
            }
        }
    }
}

/// An address that somebody names: mostly public, sometimes what nobody should be sent anything to.
fn place(script: &mut Script<'_>) -> (Ipv6Addr, u16) {
    let (kind, last) = (script.byte(), script.byte());
    let ip: IpAddr = match kind & 0x0f {
        0 => [10, 0, 0, last].into(),
        1 => [127, 0, 0, last].into(),
        2 => [239, 255, 72, last].into(),
        3 => [255, 255, 255, 255].into(),
        4 => Ipv6Addr::from([0x0100, 0, 0, u16::from(last), 0, 0, 0, 1]).into(),
        5 => Ipv6Addr::from([0xff02, 0, 0, 0, 0, 0, 0, u16::from(last)]).into(),
        6 => Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]).into(),
        7 => Ipv6Addr::UNSPECIFIED.into(),
        _ => [203, 0, 113, last].into(),
    };
    let ip = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    (ip, if kind & 0x80 != 0 { 0 } else { 18502 })
}

/// `N` of the node, if it is told in this datagram.
fn nonce_in(keys: &Keys, bytes: &mut [u8]) -> Option<[u8; 16]> {
    let Ok(Packet::Sealed(header)) = Packet::decode(bytes) else { return None };
    if header.index != keys.own_index {
        return None;
    }
    let (head, body) = bytes.split_at_mut(14);
    let (plaintext, _) = keys.open.open(header.counter, head, body).ok()?;
    let Ok(Packet::Data(frames)) = Packet::decode_inside(plaintext) else { return None };
    let mut found = None;
    for frame in frames.flatten() {
        if let Frame::ReliableData { channel: 0, data, .. } = frame
            && let Some(&[0, 36, 8, _, ref rest @ ..]) = data.first_chunk::<38>().map(|chunk| chunk.as_slice())
        {
            found = rest.first_chunk().copied();
        }
    }
    found
}

/// Returns how many hello answers went to strangers, and how many datagrams in all.
pub(crate) fn mesh(script: &[u8]) -> (u64, u64) {
    let mut script = Script(script);
    let mut stage = Stage::new();
    for _ in 0..150 {
        if script.0.is_empty() {
            break;
        }
        let step = script.byte();
        let who = usize::from(step >> 7);
        match step & 7 {
            0 => {
                let (number, len) = (script.byte(), script.number() % 1190);
                // It may name addresses, too.
                stage.introductions += 1;
                stage.say(who, &[&[1, 3, number], script.take(len)].concat());
            }
            1 => stage.tell(who, &mut script),
            2 => stage.introduce(who, &mut script),
            3 => stage.ask(who, &mut script),
            4 => stage.relay(who, &mut script),
            5 => {
                let to = [MEMBERS[0], MEMBERS[1], AWAY, AWAY][usize::from(step >> 3 & 3)];
                let mut packet = ip_packet(NODE, false, script.number() % 1300, 0xdd);
                packet[16..20].copy_from_slice(&overlay(to).octets());
                stage.searches += 1;
                let mut tx = Outbox::default();
                let _ = stage.node.node.handle_tun(stage.node.now, &packet, &mut tx, &mut Inbox::default());
                stage.node.drain(tx);
                stage.look();
            }
            _ => stage.pass(Duration::from_millis(1 << (step >> 3 & 15))),
        }
    }
    stage.pass(Duration::from_secs(30));
    assert!(format!("{:?}", stage.node.node).len() < MOST_STATE, "the node has grown");
    (stage.answers.values().sum(), stage.strange)
}
