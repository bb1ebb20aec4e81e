//! IP packets: what tests send into tunnels, and what comes out of them.

use handfast::base::TunSink;
use handfast::proto::Dropped;

use super::underlay::Outbox;
use super::{HostId, PacketId, World, overlay_v4, overlay_v6};

/// UDP port of flows that go unreliably.
const PLAIN_PORT: u16 = 9;
/// UDP port of the flows on reliable channel 1; channel 2 has the next one.
pub(super) const RELIABLE_PORT: u16 = 514;

/// IP packets.
impl World {
    /// Sends a small unreliable IP packet; every other one is IPv6.
    pub(crate) fn send(&mut self, from: HostId, to: HostId) -> PacketId {
        self.send_sized(from, to, 0, 100)
    }

    /// Sends an IP packet of `len` bytes on a reliable channel, 1 or 2, or with channel 0 unreliably. What the node says about it stands in its counters.
    pub(crate) fn send_sized(&mut self, from: HostId, to: HostId, channel: u8, len: usize) -> PacketId {
        let id = self.ledger.len() as PacketId;
        let sent = Sent { from, to, channel, len, delivered: 0 };
        self.ledger.push(sent);
        let bytes = packet(id, sent);
        // A drop is counted in the status of the node.
        let _ = self.send_bytes(from, &bytes);
        id
    }

    /// As [`Self::send_sized`]; what the node refuses is not in the ledger.
    pub(crate) fn try_send(&mut self, from: HostId, to: HostId, channel: u8, len: usize) -> Result<PacketId, Dropped> {
        let id = self.ledger.len() as PacketId;
        let sent = Sent { from, to, channel, len, delivered: 0 };
        self.ledger.push(sent);
        let result = self.send_bytes(from, &packet(id, sent));
        if result.is_err() {
            self.ledger.pop();
        }
        result.map(|()| id)
    }

    /// Hands any bytes to the tunnel of a host.
    pub(crate) fn send_bytes(&mut self, from: HostId, bytes: &[u8]) -> Result<(), Dropped> {
        let (mut tx, mut tun) = (Outbox::default(), Inbox::default());
        let now = self.clock(from);
        let node = self.hosts[from].node.as_mut();
        let result = node.map_or(Ok(()), |node| node.handle_tun(now, bytes, &mut tx, &mut tun));
        self.post(from, tx);
        self.check_inbox(from, tun);
        self.drain(from);
        result
    }

    pub(crate) fn is_delivered(&self, id: PacketId) -> bool {
        self.ledger[id as usize].delivered > 0
    }

    /// From whom a packet of the ledger is, and for whom.
    pub(crate) fn ends(&self, id: PacketId) -> (HostId, HostId) {
        let sent = &self.ledger[id as usize];
        (sent.from, sent.to)
    }

    /// Whether every packet of the ledger from `since` on has arrived.
    pub(crate) fn all_delivered_since(&self, since: PacketId) -> bool {
        self.ledger[since as usize..].iter().all(|sent| sent.delivered > 0)
    }

    pub(crate) fn packets_sent(&self) -> PacketId {
        self.ledger.len() as PacketId
    }

    /// The reliable packets that have not arrived.
    pub(crate) fn lost_reliable(&self) -> Vec<PacketId> {
        let ledger = (0..).zip(&self.ledger);
        ledger.filter(|(_, sent)| sent.channel > 0 && sent.delivered == 0).map(|(id, _)| id).collect()
    }

    /// What came out of a tunnel.
    pub(super) fn check_inbox(&mut self, host: HostId, tun: Inbox) {
        for bytes in tun.0 {
            let Some(id) = packet_id(&bytes) else {
                self.hosts[host].other.push(bytes);
                continue;
            };
            let Some(sent) = self.ledger.get_mut(id as usize) else {
                panic!("host {host} got a packet that nobody sent: {bytes:02x?}");
            };
            sent.delivered += 1;
            let sent = *sent;
            assert_eq!(sent.to, host, "packet {id} {sent:?} came to another host");
            assert!(bytes == packet(id, sent), "packet {id} {sent:?} was damaged");
            assert!(sent.delivered == 1 || self.repeats_allowed && sent.channel > 0, "packet {id} {sent:?} came twice");
            let at = self.now - self.start;
            self.hosts[host].received.push((at, id));
            if self.trace {
                println!("{at:?} packet {id} {sent:?} is delivered");
            }
        }
    }
}

/// A packet of the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    from: HostId,
    to: HostId,
    channel: u8,
    len: usize,
    delivered: u32,
}

#[derive(Default)]
pub(super) struct Inbox(pub(super) Vec<Vec<u8>>);

impl TunSink for Inbox {
    fn deliver(&mut self, packet: &[u8]) {
        self.0.push(packet.to_vec());
    }
}

/// The bytes of a packet of the ledger.
fn packet(id: PacketId, sent: Sent) -> Vec<u8> {
    let port = if sent.channel == 0 { PLAIN_PORT } else { RELIABLE_PORT + u16::from(sent.channel) - 1 };
    let v6 = id % 2 == 1;
    let headers = if v6 { 48 } else { 28 };
    let mut payload = vec![0; sent.len.max(headers + 8) - headers];
    let mut state = id ^ 0x9e37_79b9_7f4a_7c15;
    for byte in &mut payload {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    payload[..8].copy_from_slice(&id.to_be_bytes());
    let mut bytes = Vec::with_capacity(sent.len);
    if v6 {
        let (src, dst) = (overlay_v6(sent.from).octets(), overlay_v6(sent.to).octets());
        etherparse::PacketBuilder::ipv6(src, dst, 64).udp(PLAIN_PORT, port).write(&mut bytes, &payload).unwrap();
    } else {
        let (src, dst) = (overlay_v4(sent.from).octets(), overlay_v4(sent.to).octets());
        etherparse::PacketBuilder::ipv4(src, dst, 64).udp(PLAIN_PORT, port).write(&mut bytes, &payload).unwrap();
    }
    bytes
}

/// The id of a packet, if it is one of the ledger.
fn packet_id(bytes: &[u8]) -> Option<PacketId> {
    let (protocol, at) = match bytes.first()? >> 4 {
        4 => (*bytes.get(9)?, 28),
        _ => (*bytes.get(6)?, 48),
    };
    let id = bytes.get(at..at + 8).filter(|_| protocol == 17)?;
    Some(PacketId::from_be_bytes(id.try_into().ok()?))
}
