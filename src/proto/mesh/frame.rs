//! Frames that concern other members, as they wait to be sent or judged (PROTOCOL §12).

use std::net::{IpAddr, SocketAddr};

use crate::base::PeerId;
use crate::base::link::{canonical, mapped};
use crate::envelope::UNRELIABLE;
use crate::wire::data::DataWriter;
use crate::wire::frame::{Frame, IntroductionStatus};

/// The channel of all but relayed frames.
const CHANNEL: u8 = 0;

/// See the module; the fields are those of [`Frame`].
#[derive(Clone, Debug)]
pub(crate) enum MeshFrame {
    ListRequest { number: u32, version: u32 },
    Request { number: u32, ephemeral: [u8; 32], target: PeerId, signature: [u8; 64] },
    Introduction { number: u32, ephemeral: [u8; 32], asker: PeerId, signature: [u8; 64], address: SocketAddr },
    Acknowledgement { number: u32, status: IntroductionStatus },
    Relayed { hops: u8, tag: u64, datagram: Vec<u8> },
    RelayedPart { hops: u8, tag: u64, number: u32, index: u8, count: u8, data: Vec<u8> },
}

impl MeshFrame {
    /// The frame, if it is of this kind.
    pub(crate) fn of(frame: &Frame<'_>) -> Option<Self> {
        Some(match *frame {
            Frame::PeersListRequest { sequence, ack, .. } => Self::ListRequest { number: sequence, version: ack },
            Frame::IntroductionRequest { sequence, ephemeral, target, signature, .. } => {
                Self::Request { number: sequence, ephemeral: *ephemeral, target, signature: *signature }
            }
            Frame::Introduction { sequence, ephemeral, target, signature, address, port, .. } => Self::Introduction {
                number: sequence,
                ephemeral: *ephemeral,
                asker: target,
                signature: *signature,
                address: canonical(SocketAddr::new(IpAddr::V6(address), port)),
            },
            Frame::IntroductionAck { ack, status, .. } => Self::Acknowledgement { number: ack, status },
            Frame::Relayed { hops, tag, datagram, .. } => Self::Relayed { hops, tag, datagram: datagram.to_vec() },
            Frame::RelayedPart { hops, tag, number, index, count, data, .. } => {
                Self::RelayedPart { hops, tag, number, index, count, data: data.to_vec() }
            }
            Frame::ReliableData { .. }
            | Frame::UnreliableData { .. }
            | Frame::PartialData { .. }
            | Frame::Part { .. }
            | Frame::Probe { .. }
            | Frame::ProbeAnswer { .. } => return None,
        })
    }

    /// Writes it; false if it does not fit.
    pub(crate) fn write(&self, writer: &mut DataWriter<'_>) -> bool {
        let frame = match *self {
            Self::ListRequest { number, version } => {
                Frame::PeersListRequest { channel: CHANNEL, sequence: number, ack: version }
            }
            Self::Request { number, ref ephemeral, target, ref signature } => {
                Frame::IntroductionRequest { channel: CHANNEL, sequence: number, ack: 0, ephemeral, target, signature }
            }
            Self::Introduction { number, ref ephemeral, asker, ref signature, address } => Frame::Introduction {
                channel: CHANNEL,
                sequence: number,
                ack: 0,
                ephemeral,
                target: asker,
                signature,
                address: mapped(address.ip()),
                port: address.port(),
            },
            Self::Acknowledgement { number, status } => {
                Frame::IntroductionAck { channel: CHANNEL, sequence: 0, ack: number, status }
            }
            Self::Relayed { hops, tag, ref datagram } => Frame::Relayed { channel: UNRELIABLE, hops, tag, datagram },
            Self::RelayedPart { hops, tag, number, index, count, ref data } => {
                Frame::RelayedPart { channel: UNRELIABLE, hops, tag, number, index, count, data }
            }
        };
        writer.push(&frame).is_ok()
    }
}
