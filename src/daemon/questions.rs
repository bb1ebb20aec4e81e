//! `impl Engine`: what the control socket asks.

use std::time::{Duration, Instant};

use super::engine::{Engine, Question};
use super::lookup::{self, Names};
use super::pings::OpenPing;
use super::status::{self, Snapshot};
use super::{netcheck, why};
use crate::base::PeerIndex;
use crate::config::Endpoint;
use crate::config::key::format_public;
use crate::control::message::{PeerState, Pong, Reason, Refusal, VERSION};
use crate::control::{Command as ControlCommand, Response};
use crate::dataplane::DataThread;
use crate::io::udp::SendCounters;
use crate::proto::{Command, Hop, NodeStatus};

impl Engine<'_> {
    /// Answers now, or keeps the question until a peer has answered; whether the node may want to send something for it.
    pub(super) fn handle_question(&mut self, now: Instant, question: Question) -> bool {
        let (request, answer) = question;
        let response = match request.command {
            ControlCommand::Status => self.status(now),
            ControlCommand::Netcheck => {
                let names = Names::of_peers(&self.config.peers);
                Response::Netcheck(Box::new(netcheck::netcheck(&self.node_status(now), &names)))
            }
            ControlCommand::Why { peer } => self.why(now, &peer),
            ControlCommand::Ping { peer, number } => match lookup::find(&self.config.peers, &peer) {
                Ok(peer) => return self.begin_ping(now, peer, number, answer),
                Err(message) => refuse(Reason::UnknownPeer, message),
            },
        };
        // A caller that did not wait is no loss.
        let _ = answer.send(response);
        false
    }

    fn begin_ping(
        &mut self,
        now: Instant,
        peer: PeerIndex,
        number: u32,
        answer: tokio::sync::oneshot::Sender<Response>,
    ) -> bool {
        match self.pings.begin(now, peer, number, answer) {
            Ok(number) => {
                self.node.handle_command(now, Command::Ping { peer, number });
                true
            }
            Err(answer) => {
                let _ = answer.send(refuse(Reason::Busy, "too many pings are under way; try again"));
                false
            }
        }
    }

    /// A peer has answered a ping.
    pub(super) fn on_pong(&mut self, peer: PeerIndex, number: u32, rtt: Duration, hop: Hop) {
        if let Some(ping) = self.pings.take(peer, number) {
            let hop = status::hop(hop, &Names::of_peers(&self.config.peers));
            self.end_ping(ping, Some((rtt, hop)), PeerState::Connected);
        }
    }

    /// Tells the callers whose peers do not answer.
    pub(super) fn give_up_pings(&mut self, now: Instant) {
        while let Some(ping) = self.pings.take_overdue(now) {
            let state = self.node_status(now).peers.get(ping.peer.slot()).map_or(PeerState::Idle, status::state);
            self.end_ping(ping, None, state);
        }
    }

    fn end_ping(&self, ping: OpenPing, answered: Option<(Duration, crate::control::message::Hop)>, state: PeerState) {
        let (rtt, hop) = answered.unzip();
        let pong = Pong {
            version: VERSION,
            peer: Names::of_peers(&self.config.peers).of(ping.peer).to_owned(),
            number: ping.number,
            rtt_ms: rtt.map(status::milliseconds),
            hop,
            state,
        };
        let _ = ping.answer.send(Response::Pong(Box::new(pong)));
    }

    fn status(&self, now: Instant) -> Response {
        let snapshot = Snapshot {
            config: self.config,
            public_key: &format_public(&self.node.id()),
            uptime: self.clock.uptime(now),
            node: self.node_status(now),
            tun: &self.edges.shared.tun,
            udp: self.sent(),
            receive_errors: self.edges.threads.iter().map(DataThread::receive_errors).sum(),
        };
        Response::Status(Box::new(snapshot.to_status()))
    }

    fn why(&self, now: Instant, peer: &str) -> Response {
        let index = match lookup::find(&self.config.peers, peer) {
            Ok(index) => index,
            Err(message) => return refuse(Reason::UnknownPeer, message),
        };
        let node = self.node_status(now);
        let (Some(peer), Some(facts)) = (self.config.peers.get(index.slot()), node.peers.get(index.slot())) else {
            return refuse(Reason::UnknownPeer, "that peer is not there any more");
        };
        let endpoints: Vec<String> = peer.endpoints.iter().map(written).collect();
        let names = Names::of_peers(&self.config.peers);
        let case = why::Case { name: &peer.name, endpoints: &endpoints, facts, nat: &node.nat, names: &names };
        Response::Why(Box::new(case.to_why()))
    }

    fn node_status(&self, now: Instant) -> NodeStatus {
        let mut status = self.node.status(now);
        self.edges.shared.drops.add_to(&mut status.drops);
        status
    }

    pub(super) fn sent(&self) -> SendCounters {
        self.edges.threads.iter().map(DataThread::sent).fold(self.edges.sender.counters(), SendCounters::plus)
    }
}

/// As the configuration has it.
fn written(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Address(address) => address.to_string(),
        Endpoint::Name { host, port } => format!("{host}:{port}"),
    }
}

fn refuse(reason: Reason, message: impl Into<String>) -> Response {
    Response::Error(Refusal { reason, message: message.into() })
}
