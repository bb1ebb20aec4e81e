//! Whole nodes that are driven by a script of bytes; used by the fuzz targets and by the tests that replay their corpora.
//!
//! In [`pair`] two honest nodes talk over a line that the script controls: it delivers, drops, repeats, spoils and delays their datagrams, adds some of its own, and lets time
//! pass. Whatever it does: no panic, nothing comes out of a tunnel that did not go into the other, and when the line is good again, packets get through.
//!
//! In [`insider`] one node talks to a peer that has its keys and means harm: it shakes hands as it should and then seals whatever the script says. In `mesh` two such peers
//! say whatever they like about others.
#![expect(clippy::expect_used, clippy::panic, reason = "a check that fails panics")]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use handfast::base::{Link, PeerIndex, Rng, SessionIndex, TunSink, TxSink};
use handfast::crypto::aead::{Cipher, OpenKey, SealKey, TxCounter};
use handfast::crypto::kem::encapsulate;
use handfast::crypto::keys::{EphemeralSecret, IdentitySecret};
use handfast::crypto::schedule::{Epoch0, EpochKeys, Net, Role, hello_hash};
use handfast::crypto::secret::Secret;
use handfast::overlay::{ChannelRules, FlowMatch};
use handfast::proto::{Command, Node, NodeConfig, PeerConfig};
use handfast::wire::sealed::{HEADER, MAX_PLAINTEXT, TAG};
use handfast::wire::{DataWriter, Frame, HelloKind, Packet, Record, SealedHeader, encode_hello};

/// What the insider is capable of: part frames and probes.
const CAPS: u32 = 6;

/// The side that the node under attack is on.
pub(crate) const NODE: usize = 1;

/// What a node may hold, printed, whatever it is sent.
pub(crate) const MOST_STATE: usize = 16 << 20;

#[derive(Default)]
pub(crate) struct Outbox(pub(crate) Vec<(Link, Vec<u8>)>);

impl TxSink for Outbox {
    fn transmit(&mut self, link: Link, len: usize, fill: impl FnOnce(&mut [u8])) {
        let mut bytes = vec![0xee; len];
        fill(&mut bytes);
        self.0.push((link, bytes));
    }
}

#[derive(Default)]
pub(crate) struct Inbox(pub(crate) Vec<Vec<u8>>);

impl TunSink for Inbox {
    fn deliver(&mut self, packet: &[u8]) {
        self.0.push(packet.to_vec());
    }
}

/// The bytes of a script, which ends in zeros.
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

#[expect(clippy::disallowed_methods, reason = "a script needs one arbitrary moment to start from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn identity(side: usize) -> IdentitySecret {
    IdentitySecret::generate(&mut Rng::from_number(100 + side as u64))
}

pub(crate) fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, side as u8 + 1], 18502))
}

pub(crate) fn overlay(side: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, side as u8 + 1)
}

fn node(side: usize, seed: u64, now: Instant) -> Node {
    let other = 1 - side;
    let reliable = FlowMatch { dscp: Some(8), ..FlowMatch::default() };
    let config = NodeConfig {
        peers: vec![PeerConfig {
            id: identity(other).id(),
            endpoints: vec![address(other)],
            prefixes: vec![IpAddr::V4(overlay(other)).into()],
            keepalive: None,
        }],
        addresses: vec![IpAddr::V4(overlay(side))],
        channels: ChannelRules::new(vec![reliable]).unwrap_or_default(),
        prefers_aes: side == 0,
        ..NodeConfig::default()
    };
    Node::new(config, identity(side), Rng::from_number(seed), now)
}

/// An IPv4 packet from one side to the other. Differentiated services codepoint 8 is for the reliable channel.
pub(crate) fn ip_packet(from: usize, reliable: bool, len: usize, fill: u8) -> Vec<u8> {
    let len = len.clamp(20, 65_535);
    let mut bytes = vec![fill; len];
    bytes[..2].copy_from_slice(&[0x45, if reliable { 8 << 2 } else { 0 }]);
    bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    bytes[4..12].copy_from_slice(&[0, 0, 0, 0, 64, 253, 0, 0]);
    bytes[12..16].copy_from_slice(&overlay(from).octets());
    bytes[16..20].copy_from_slice(&overlay(1 - from).octets());
    bytes
}

/// Two nodes and the line between them.
struct Pair {
    now: Instant,
    nodes: [Node; 2],
    line: VecDeque<(usize, SocketAddr, Vec<u8>)>,
    /// Some datagrams that were sent, for repetition.
    seen: Vec<(usize, SocketAddr, Vec<u8>)>,
    /// What went into each tunnel.
    sent: [Vec<Vec<u8>>; 2],
    received: [usize; 2],
    last: [Vec<u8>; 2],
    starts: u64,
}

impl Pair {
    fn drain(&mut self, side: usize) {
        let mut tx = Outbox::default();
        let now = self.now;
        let mut turns = 0;
        while self.nodes[side].poll_transmit(now, &mut tx) {
            turns += 1;
            assert!(turns < 10_000, "poll_transmit never ends");
        }
        while self.nodes[side].poll_event().is_some() {}
        self.post(side, tx);
    }

    fn post(&mut self, side: usize, tx: Outbox) {
        for (link, bytes) in tx.0 {
            if link.remote == address(1 - side) {
                if self.seen.len() < 256 {
                    self.seen.push((1 - side, address(side), bytes.clone()));
                }
                if self.line.len() < 4096 {
                    self.line.push_back((1 - side, address(side), bytes));
                }
            }
        }
    }

    fn check(&mut self, side: usize, tun: Inbox) {
        for packet in tun.0 {
            assert!(self.sent[1 - side].contains(&packet), "out of the tunnel of {side} came what nobody has sent");
            self.received[side] += 1;
            self.last[side] = packet;
        }
    }

    fn deliver(&mut self, side: usize, from: SocketAddr, mut bytes: Vec<u8>) {
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let link = Link::new(Some(address(side).ip()), from);
        // What is dropped is counted.
        let _ = self.nodes[side].handle_datagram(self.now, link, &mut bytes, &mut tx, &mut tun);
        self.post(side, tx);
        self.check(side, tun);
        self.drain(side);
    }

    fn send(&mut self, side: usize, packet: Vec<u8>) {
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let _ = self.nodes[side].handle_tun(self.now, &packet, &mut tx, &mut tun);
        self.sent[side].push(packet);
        self.post(side, tx);
        self.drain(side);
    }

    /// Lets time pass, and every timer that is due act.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..10_000 {
            let next = self.nodes.iter().filter_map(Node::poll_timeout).min().filter(|&at| at <= end);
            let Some(next) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            for side in [0, 1] {
                self.nodes[side].handle_timeout(self.now);
                self.drain(side);
            }
        }
        panic!("timers never rest");
    }

    fn deliver_all(&mut self) {
        for _ in 0..100_000 {
            let Some((side, from, bytes)) = self.line.pop_front() else {
                return;
            };
            self.deliver(side, from, bytes);
        }
        panic!("two nodes talk for ever");
    }
}

/// What a script may do.
impl Pair {
    /// To the datagrams on the line.
    fn disturb(&mut self, step: u8, script: &mut Script<'_>) {
        let side = usize::from(step >> 7);
        match step & 0x1f {
            0..=7 => {
                // Usually the next; sometimes one from behind it.
                let place = usize::from(step >> 5 & 3).min(self.line.len().saturating_sub(1));
                if let Some((side, from, bytes)) = self.line.remove(place) {
                    self.deliver(side, from, bytes);
                }
            }
            8 => drop(self.line.pop_front()),
            9 | 10 => {
                if let Some((side, from, mut bytes)) = self.line.pop_front() {
                    let (place, change) = (script.number() % bytes.len(), script.byte());
                    bytes[place] ^= change;
                    self.deliver(side, from, bytes);
                }
            }
            11 => {
                if let Some((side, from, mut bytes)) = self.line.pop_front() {
                    bytes.truncate(script.number() % (bytes.len() + 1));
                    self.deliver(side, from, bytes);
                }
            }
            12 | 13 => {
                let place = usize::from(script.byte());
                if let Some((side, from, bytes)) = self.seen.get(place).cloned() {
                    self.deliver(side, from, bytes);
                }
            }
            14 => {
                // A copy from elsewhere, before the original.
                if let Some((side, _, bytes)) = self.line.front().cloned() {
                    self.deliver(side, SocketAddr::from(([203, 0, 113, script.byte()], 7)), bytes);
                }
            }
            15 => {
                let len = usize::from(script.byte());
                let bytes = script.take(len).to_vec();
                self.deliver(side, address(1 - side), bytes);
            }
            _ => self.deliver_all(),
        }
    }

    /// To the nodes, and to the time.
    fn drive(&mut self, step: u8, script: &mut Script<'_>) {
        let side = usize::from(step >> 7);
        match step & 0x1f {
            19..=22 => {
                let (len, fill) = (script.number(), script.byte());
                let packet = ip_packet(side, step & 0x20 != 0, if step & 0x40 != 0 { len } else { len % 1200 }, fill);
                self.send(side, packet);
            }
            23 => {
                let len = usize::from(script.byte());
                let packet = script.take(len).to_vec();
                self.send(side, packet);
            }
            24 => self.pass(Duration::from_millis(u64::from(script.byte()))),
            25 => self.pass(Duration::from_millis(100 * u64::from(script.byte()))),
            26 => self.pass(Duration::from_secs(u64::from(script.byte()))),
            27 => {
                self.starts += 1;
                self.nodes[side] = node(side, self.starts, self.now);
                self.drain(side);
            }
            28 => {
                let endpoints = vec![address(1 - side), SocketAddr::from(([203, 0, 113, script.byte()], 9))];
                self.nodes[side].handle_command(self.now, Command::SetEndpoints { peer: PeerIndex(0), endpoints });
                self.drain(side);
            }
            29 => {
                // The clock jumps, and no timer could act in between.
                self.now += Duration::from_secs(u64::from(script.byte()));
            }
            _ => self.line.clear(),
        }
    }
}

/// Two honest nodes, and a script that owns the line.
pub(crate) fn pair(script: &[u8]) {
    let now = start();
    let mut script = Script(script);
    let mut pair = Pair {
        now,
        nodes: [node(0, 1, now), node(1, 2, now)],
        line: VecDeque::new(),
        seen: Vec::new(),
        sent: Default::default(),
        received: [0, 0],
        last: Default::default(),
        starts: 2,
    };
    for side in [0, 1] {
        pair.drain(side);
    }
    for _ in 0..400 {
        if script.0.is_empty() {
            break;
        }
        let step = script.byte();
        if step & 0x1f < 19 {
            pair.disturb(step, &mut script);
        } else {
            pair.drive(step, &mut script);
        }
    }
    // From here on the line is good.
    pair.line.clear();
    for second in 0..40u8 {
        for side in [0, 1] {
            pair.send(side, ip_packet(side, false, 100 + usize::from(second), 0xcc));
        }
        pair.deliver_all();
        pair.pass(Duration::from_secs(1));
        pair.deliver_all();
    }
    for side in [0, 1] {
        assert_eq!(pair.last[side].len(), 139, "the line is good, and side {side} hears nothing");
        assert!(format!("{:?}", pair.nodes[side]).len() < MOST_STATE, "side {side} has grown");
    }
}

/// What an insider seals with.
pub(crate) struct Keys {
    seal: SealKey,
    pub(crate) open: OpenKey,
    counter: TxCounter,
    index: SessionIndex,
    /// Towards the insider.
    pub(crate) own_index: SessionIndex,
}

impl Keys {
    fn new(keys: EpochKeys, cipher: Cipher) -> Self {
        let halves = keys.split(Role::Initiator, cipher);
        let (counter, own_index) = (TxCounter::new(), halves.receive);
        Self { seal: halves.seal, open: halves.open, counter, index: halves.send, own_index }
    }

    pub(crate) fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let Ok(nonce) = self.counter.next() else {
            return Vec::new();
        };
        let header = SealedHeader { index: self.index, counter: nonce.counter() }.encode();
        let mut datagram = [&header[..], plaintext, &[0; TAG]].concat();
        self.seal.seal(nonce, &header, &mut datagram[HEADER..]);
        datagram
    }
}

/// A peer with the right keys, and the node that it talks to.
pub(crate) struct Insider {
    pub(crate) now: Instant,
    pub(crate) node: Node,
    /// What the node has sent, and where to.
    pub(crate) sent: Vec<(SocketAddr, Vec<u8>)>,
    /// IP packets that came out of the node's tunnel.
    pub(crate) delivered: usize,
}

impl Insider {
    pub(crate) fn new(now: Instant, node: Node) -> Self {
        let mut insider = Self { now, node, sent: Vec::new(), delivered: 0 };
        insider.drain(Outbox::default());
        insider
    }

    /// A datagram from the address of the member on side `who`.
    pub(crate) fn deliver(&mut self, who: usize, mut bytes: Vec<u8>) {
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let link = Link::new(Some(address(NODE).ip()), address(who));
        let _ = self.node.handle_datagram(self.now, link, &mut bytes, &mut tx, &mut tun);
        for packet in tun.0 {
            assert_ne!(packet[12..16], overlay(NODE).octets(), "with the node's own address");
            self.delivered += 1;
        }
        self.drain(tx);
    }

    pub(crate) fn drain(&mut self, mut tx: Outbox) {
        let mut turns = 0;
        while self.node.poll_transmit(self.now, &mut tx) {
            turns += 1;
            assert!(turns < 10_000, "poll_transmit never ends");
        }
        while self.node.poll_event().is_some() {}
        self.sent.extend(tx.0.into_iter().map(|(link, bytes)| (link.remote, bytes)));
    }

    fn last(&self, kind: u8) -> Vec<u8> {
        self.sent.iter().rev().find(|(_, bytes)| bytes[1] == kind).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    /// Shakes hands as the member on side `who` up to the finish, which is returned in the frames that carry it, with the keys of both epochs.
    pub(crate) fn shake_hands(&mut self, who: usize, own_caps: u32, rng: &mut Rng) -> (Keys, Keys, Vec<Vec<u8>>) {
        let (identity, to) = (identity(who), identity(NODE).id());
        let net = Net::new(&Secret::fill(|psk| psk.fill(0)));
        let ephemeral = EphemeralSecret::generate(rng);
        let public = ephemeral.public();
        let hello = |cookie: &[u8; 32]| {
            let signature = net.sign_hello(&identity, &to, &public, cookie);
            encode_hello(HelloKind::Hello, &public, &identity.id(), &signature, cookie)
        };
        self.deliver(who, hello(&net.mac1(&to, &public, &identity.id())).to_vec());
        let cookie: [u8; 32] = self.last(0x83)[2..].try_into().expect("a retry");
        let second = hello(&cookie);
        self.sent.clear();
        self.deliver(who, second.to_vec());
        let answer = self.last(0x81);
        let Ok(Packet::HelloAnswer(answer)) = Packet::decode(&answer) else {
            panic!("no answer");
        };
        let shared = ephemeral.agree(answer.ephemeral()).expect("an honest key");
        let epoch = Epoch0::derive(&net, &hello_hash(&second), answer.ephemeral(), &to, answer.signature(), &shared);
        let (transcript, chain) = (epoch.transcript, epoch.chain);
        let zero = Keys::new(epoch.keys, Cipher::ChaCha20Poly1305);
        let offer = self.offer(&zero);
        let Ok(Record::Offer { caps, ek }) = Record::decode(&offer) else {
            panic!("no offer");
        };
        let (ct, kem) = encapsulate(ek, rng).expect("an honest key");
        let th_1 = transcript.quantum(own_caps, caps, ek, &ct);
        let signature = net.sign_finish(&identity, &th_1);
        let finish = Record::Finish { caps: own_caps, ct: &ct, signature: &signature }.encode();
        let (keys, _) = chain.quantum(&th_1, &kem);
        let stream = [&(finish.len() as u16).to_be_bytes()[..], &finish].concat();
        let frames = (1..)
            .zip(stream.chunks(1183))
            .map(|(sequence, data)| data_packet(&Frame::ReliableData { channel: 0, sequence, ack: 1, data }));
        (zero, Keys::new(keys, Cipher::ChaCha20Poly1305), frames.collect())
    }

    /// The record in the sealed packets of epoch 0.
    fn offer(&self, keys: &Keys) -> Vec<u8> {
        let mut stream = Vec::new();
        for (_, bytes) in self.sent.iter().filter(|(_, bytes)| bytes[1] == 0x10) {
            let mut bytes = bytes.clone();
            let Ok(Packet::Sealed(header)) = Packet::decode(&bytes) else {
                continue;
            };
            if header.index != keys.own_index {
                continue;
            }
            let (head, body) = bytes.split_at_mut(HEADER);
            let (plaintext, _) = keys.open.open(header.counter, head, body).expect("sealed for us");
            let Ok(Packet::Data(frames)) = Packet::decode(plaintext) else {
                continue;
            };
            for frame in frames.flatten() {
                if let Frame::ReliableData { data, sequence: 1.., .. } = frame {
                    stream.extend_from_slice(data);
                }
            }
        }
        stream.split_off(2)
    }
}

pub(crate) fn data_packet(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; MAX_PLAINTEXT];
    let mut writer = DataWriter::new(&mut bytes);
    writer.push(frame).expect("one frame fits");
    let len = writer.finish();
    bytes.truncate(len);
    bytes
}

/// A peer with the right keys that seals whatever the script says, before and after its finish. Returns how many IP packets the node delivered.
pub(crate) fn insider(script: &[u8]) -> usize {
    let now = start();
    let mut script = Script(script);
    let mut insider = Insider::new(now, node(NODE, 2, now));
    let (zero, one, finish) = insider.shake_hands(0, CAPS, &mut Rng::from_number(9));
    let mut finish = finish.into_iter();
    for _ in 0..200 {
        if script.0.is_empty() {
            break;
        }
        let step = script.byte();
        match step & 7 {
            0 => {
                if let Some(plaintext) = finish.next() {
                    let datagram = zero.seal(&plaintext);
                    insider.deliver(0, datagram);
                }
            }
            1 => {
                // Anything at all.
                let len = script.number() % 1500;
                let plaintext = script.take(len);
                let datagram = if step & 0x80 != 0 { zero.seal(plaintext) } else { one.seal(plaintext) };
                insider.deliver(0, datagram);
            }
            2 => {
                // A data packet with any frames.
                let (number, len) = (script.byte(), script.number() % 1500);
                let plaintext = [&[1, 3, number], script.take(len)].concat();
                let datagram = if step & 0x80 != 0 { zero.seal(&plaintext) } else { one.seal(&plaintext) };
                insider.deliver(0, datagram);
            }
            3 | 4 => {
                // A message with any data on any reliable channel.
                let (channel, sequence) = (script.byte(), u32::from(script.byte()));
                let (ack, len) = (u32::from(script.byte()), usize::from(script.byte()) * 4);
                let data = script.take(len.min(1183));
                let datagram = one.seal(&data_packet(&Frame::ReliableData { channel, sequence, ack, data }));
                insider.deliver(0, datagram);
            }
            5 => {
                let (number, index) = (u32::from(script.byte()), script.byte());
                let (count, len) = (script.byte(), usize::from(script.byte()) * 4);
                let data = script.take(len);
                let datagram = one.seal(&data_packet(&Frame::Part { channel: 128, number, index, count, data }));
                insider.deliver(0, datagram);
            }
            6 => {
                insider.now += Duration::from_millis(1 << (step >> 4));
                insider.node.handle_timeout(insider.now);
                insider.drain(Outbox::default());
            }
            _ => {
                let packet = ip_packet(1, step & 0x80 != 0, script.number(), 0xdd);
                let mut tx = Outbox::default();
                let _ = insider.node.handle_tun(insider.now, &packet, &mut tx, &mut Inbox::default());
                insider.drain(tx);
            }
        }
        insider.sent.clear();
    }
    assert!(format!("{:?}", insider.node).len() < MOST_STATE, "the node has grown");
    insider.delivered
}
