//! What the frames of an authentic packet bring: packets for the overlay interface, messages of the reliable channels, probes and their answers.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use super::channel::FrameFault;
use super::command::Traffic;
use super::event::{Dropped, Drops, Ended};
use super::mesh::MeshFrame;
use super::session::Session;
use crate::base::{Ecn, PeerIndex, TunSink};
use crate::envelope::FIRST_UNRELIABLE;
use crate::ip::packet::IpPacket;
use crate::ip::{checksum, ecn, mss};
use crate::overlay::routes::RouteTable;
use crate::wire::frame::Frame;

/// What the frames of one packet may touch besides their session.
pub(super) struct Delivery<'a, T> {
    pub(super) index: PeerIndex,
    /// That of the datagram.
    pub(super) mark: Ecn,
    pub(super) routes: &'a RouteTable,
    pub(super) addresses: &'a [IpAddr],
    pub(super) traffic: &'a mut Traffic,
    pub(super) drops: &'a mut Drops,
    pub(super) tun: &'a mut T,
    /// The longest packet that one datagram carries towards the peer, if that is known.
    pub(super) mtu: Option<usize>,
    /// Length of the datagram, if one frame is all that it carries.
    pub(super) alone: Option<usize>,
    /// What concerns other members.
    pub(super) mesh: Vec<MeshFrame>,
}

impl<T: TunSink> Delivery<'_, T> {
    /// One frame (PROTOCOL §9). An error ends the session.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        session: &mut Session,
        epoch: u64,
        frame: &Frame<'_>,
    ) -> Result<(), Ended> {
        match *frame {
            Frame::ReliableData { channel, sequence, ack, data } => {
                let allowed = if epoch == 0 { channel == 0 } else { channel < FIRST_UNRELIABLE };
                if !allowed {
                    self.drops.count(Dropped::WrongChannel);
                    return Ok(());
                }
                if sequence != 0 {
                    session.activity.on_content(now);
                    if channel != 0 {
                        session.activity.on_user_received(now);
                    }
                }
                return self.reliable(now, session, channel, sequence, ack, data);
            }
            Frame::UnreliableData { channel, data } => {
                if epoch == 0 || channel < FIRST_UNRELIABLE {
                    self.drops.count(Dropped::WrongChannel);
                } else {
                    session.activity.on_content(now);
                    session.activity.on_user_received(now);
                    self.deliver(data, self.mark);
                }
            }
            Frame::Part { channel, number, index, count, data } => {
                if epoch == 0 || channel < FIRST_UNRELIABLE {
                    self.drops.count(Dropped::WrongChannel);
                    return Ok(());
                }
                session.activity.on_content(now);
                session.activity.on_user_received(now);
                match session.reassembly.on_part(now, number, index, count, data, self.mark) {
                    Ok(Some((packet, mark))) => self.deliver(&packet, mark),
                    Ok(None) => {}
                    Err(_) => self.drops.count(Dropped::BadPart),
                }
            }
            Frame::PartialData { channel, data } => {
                if epoch == 0 || channel < FIRST_UNRELIABLE {
                    self.drops.count(Dropped::WrongChannel);
                    return Ok(());
                }
                session.activity.on_content(now);
                session.activity.on_user_received(now);
                let mut packet = data.to_vec();
                if checksum::complete(&mut packet).is_ok() {
                    self.deliver(&packet, self.mark);
                } else {
                    self.drops.count(Dropped::BadInner);
                }
            }
            Frame::Probe { channel, number } => {
                if epoch == 0 || channel < FIRST_UNRELIABLE {
                    self.drops.count(Dropped::WrongChannel);
                } else if let Err(reason) = session.on_probe(now, number, self.alone) {
                    self.drops.count(reason);
                }
            }
            Frame::ProbeAnswer { channel, number, size } => {
                if epoch == 0 || channel < FIRST_UNRELIABLE {
                    self.drops.count(Dropped::WrongChannel);
                } else if !session.mtu.on_answer(now, number, usize::from(size)) {
                    self.drops.count(Dropped::Unexpected);
                }
            }
            Frame::PeersListRequest { channel, .. }
            | Frame::IntroductionRequest { channel, .. }
            | Frame::Introduction { channel, .. }
            | Frame::IntroductionAck { channel, .. } => self.for_mesh(session, epoch, channel == 0, frame),
            Frame::Relayed { channel, .. } | Frame::RelayedPart { channel, .. } => {
                self.for_mesh(session, epoch, channel >= FIRST_UNRELIABLE, frame);
            }
        }
        Ok(())
    }

    /// What concerns other members (PROTOCOL §12) is the node's.
    fn for_mesh(&mut self, session: &Session, epoch: u64, right_channel: bool, frame: &Frame<'_>) {
        if epoch == 0 || !right_channel {
            self.drops.count(Dropped::WrongChannel);
        } else if !session.takes_mesh() {
            self.drops.count(Dropped::Ignored);
        } else {
            self.mesh.extend(MeshFrame::of(frame));
        }
    }

    /// A message or an acknowledgement of a reliable channel (PROTOCOL §10).
    fn reliable(
        &mut self,
        now: Instant,
        session: &mut Session,
        channel: u8,
        sequence: u32,
        ack: u32,
        data: &[u8],
    ) -> Result<(), Ended> {
        match session.channels.on_frame(now, channel, sequence, ack, data) {
            Ok(()) => {}
            Err(FrameFault::Duplicate) => self.drops.count(Dropped::DuplicateMessage),
            Err(FrameFault::NotReliable) => self.drops.count(Dropped::WrongChannel),
            Err(FrameFault::BeyondWindow) => self.drops.count(Dropped::BeyondWindow),
            Err(FrameFault::Malformed | FrameFault::NeverSent) => self.drops.count(Dropped::BadAcknowledgement),
            Err(FrameFault::RecordLength) => return Err(Ended::Fault),
        }
        Ok(())
    }

    /// An IP packet for the overlay interface (PROTOCOL §11.3), that came under `outer` (PROTOCOL §11.6).
    pub(super) fn deliver(&mut self, packet: &[u8], outer: Ecn) {
        let Ok(inner) = IpPacket::parse(packet) else {
            self.drops.count(Dropped::BadInner);
            return;
        };
        // An own address may lie in a peer's wider prefix and is still nobody else's.
        if !self.routes.permits(self.index, inner.src()) || self.addresses.contains(&inner.src()) {
            self.drops.count(Dropped::SpoofedSource);
            return;
        }
        let Some(mark) = ecn::decapsulate(outer, inner.ecn()) else {
            self.drops.count(Dropped::Congestion);
            return;
        };
        self.traffic.rx_packets += 1;
        self.traffic.rx_bytes += packet.len() as u64;
        // What the peer's host announces is what this side's host will send.
        let clamped = self.mtu.and_then(|mtu| mss::clamp(&inner, mtu));
        let mut packet = clamped.map_or(Cow::Borrowed(packet), Cow::Owned);
        if mark != inner.ecn() {
            ecn::mark(packet.to_mut(), mark);
        }
        self.tun.deliver(&packet);
    }
}
