//! `impl Node`: time and commands.

use std::net::SocketAddr;
use std::time::Instant;

use super::command::Command;
use super::node::Node;
use crate::wire::record::CloseReason;

impl Node {
    /// Lets every timer that is due act. What it wants to send waits for [`Node::poll_transmit`], which must follow.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.responder.handle_timeout(now, &mut self.rng);
        if now >= self.mesh.deadline() {
            self.tend_mesh(now);
        }
        let holding = self.peers.holding;
        for index in self.peers.take_due(now) {
            if self.peers.get_mut(index).is_some_and(|peer| peer.end_attempt(now)) {
                self.give_up(now, index);
            }
            if let Some(peer) = self.peers.get_mut(index) {
                let relay = peer.silent_relay(now);
                peer.handle_timeout(now, holding, &self.local, &mut self.rng, &mut self.events);
                if let Some(relay) = relay {
                    self.doubt(now, relay);
                }
                // Settled when it has sent what is due; else the deadline just passed would be scheduled again.
                self.peers.wake(index);
            }
        }
    }

    /// Does what the shell says.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::SetEndpoints { peer: index, endpoints } => {
                if let Some(peer) = self.peers.get_mut(index).filter(|_| !self.stopping) {
                    peer.set_endpoints(now, endpoints, &mut self.rng);
                    self.settle(now, index);
                }
            }
            Command::TooBig { remote, len } => self.on_too_big(now, remote, len),
            Command::SetLocal { addresses } => self.set_local(now, addresses),
            Command::NetworkChanged => self.on_network_changed(now),
            Command::LinkJoined => self.on_link_joined(now),
            Command::Announced { from, datagram } => self.on_announced(now, from, &datagram),
            Command::Ping { peer: index, number } => {
                if let Some(peer) = self.peers.get_mut(index).filter(|_| !self.stopping) {
                    peer.ask_echo(now, number, &mut self.rng);
                    self.settle(now, index);
                }
            }
            Command::Shutdown => self.shut_down(now),
        }
    }

    fn on_too_big(&mut self, now: Instant, remote: SocketAddr, len: usize) {
        for index in self.peers.indexes() {
            let Some(peer) = self.peers.get_mut(index) else {
                continue;
            };
            let mut concerned = false;
            for session in peer.sessions.iter_mut().filter(|session| session.path.remote() == remote) {
                session.mtu.on_too_big(len);
                concerned = true;
            }
            if concerned {
                self.settle(now, index);
            }
        }
    }

    fn shut_down(&mut self, now: Instant) {
        self.stopping = true;
        for index in self.peers.indexes() {
            if let Some(peer) = self.peers.get_mut(index) {
                peer.stop();
                for session in &mut peer.sessions {
                    session.close(now, CloseReason::Shutdown);
                }
                self.settle(now, index);
            }
        }
    }
}
