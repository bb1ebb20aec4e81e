//! What the host is connected to, as the node is told of it: own addresses, changes, neighbours, and what routers forward.

use std::net::SocketAddr;
use std::num::NonZero;
use std::task::{Context, Poll};

use crate::base::TxSink;
use crate::io::multicast::{self, Listener};
use crate::io::netlink::{Networks, Watch};
use crate::io::portmap::{PortMapper, Router};
use crate::io::udp::Sender;
use crate::proto::Command;
use crate::proto::command::CandidateKind;

/// Addresses that the node takes at a time.
const MAX_LOCAL: usize = 16;

/// The host's networks as the node knows them.
#[derive(Debug)]
pub(super) struct Surroundings {
    watch: Watch,
    /// Of the data sockets.
    port: u16,
    /// `None` until the kernel has told.
    networks: Option<Networks>,
    /// The node's port on routers.
    mapped: Option<SocketAddr>,
    /// `None` if routers are not asked.
    mapper: Option<PortMapper>,
    /// What the node was told last.
    told: Option<Vec<(SocketAddr, CandidateKind)>>,
    /// `None` if neighbours are neither told nor heard.
    neighbours: Option<Listener>,
}

/// What the operator wants beyond looking.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    /// Neighbours are told and heard.
    pub(super) lan_discovery: bool,
    /// Routers are asked to forward the port.
    pub(super) port_mapping: bool,
}

impl Surroundings {
    /// Begins to look. `overlay` is the index of the interface that does not count.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(super) fn new(overlay: u32, port: u16, wishes: Wishes) -> Self {
        Self {
            watch: Watch::start(overlay),
            port,
            networks: None,
            mapped: None,
            mapper: NonZero::new(port).filter(|_| wishes.port_mapping).map(PortMapper::start),
            told: None,
            neighbours: wishes.lan_discovery.then(Listener::new),
        }
    }

    /// What the node shall be told now, in this order; never nothing.
    pub(super) fn poll_commands(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Command>> {
        let mut commands = Vec::new();
        while let Poll::Ready(networks) = self.watch.poll_change(cx) {
            self.on_networks(networks, &mut commands);
        }
        while let Some(mapper) = &mut self.mapper
            && let Poll::Ready(mapped) = mapper.poll_change(cx)
        {
            self.mapped = mapped;
            commands.extend(self.tell());
        }
        if let Some(neighbours) = &mut self.neighbours {
            while let Poll::Ready((from, datagram)) = neighbours.poll_heard(cx) {
                commands.push(Command::Announced { from, datagram });
            }
        }
        if commands.is_empty() { Poll::Pending } else { Poll::Ready(commands) }
    }

    /// Everything may be different: routers are asked again.
    pub(super) fn on_moved(&self) {
        if let Some(mapper) = &self.mapper {
            let router = self.networks.as_ref().and_then(Networks::router);
            mapper.ask(router.map(|(address, own)| Router { address, own }));
        }
    }

    /// Takes back what routers were asked for.
    pub(super) async fn leave(&mut self) {
        if let Some(mapper) = self.mapper.take() {
            mapper.end().await;
        }
    }

    /// Tells all neighbours, if that is wanted.
    pub(super) fn announce(&self, datagram: &[u8], sender: &mut Sender) {
        let lans = self.networks.as_ref().filter(|_| self.neighbours.is_some()).map_or(&[][..], |found| &found.lans);
        for link in multicast::destinations(lans) {
            sender.transmit(link, datagram.len(), |room| room.copy_from_slice(datagram));
        }
        sender.flush();
    }

    fn on_networks(&mut self, networks: Networks, commands: &mut Vec<Command>) {
        let is_first = self.networks.is_none();
        let moved = self.networks.as_ref().is_some_and(|before| networks.has_moved_since(before));
        let before = self.networks.as_ref().map_or(&[][..], |before| &before.lans);
        let joined = networks.lans.iter().any(|lan| !before.contains(lan));
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.listen_on(&networks.lans);
        }
        tracing::debug!(addresses = ?networks.addresses, "the host's networks");
        self.networks = Some(networks);
        commands.extend(self.tell());
        // An address that counts on the link alone is none that the node is told.
        if joined && self.neighbours.is_some() {
            commands.push(Command::LinkJoined);
        }
        if moved || is_first {
            self.on_moved();
        }
        if moved {
            tracing::info!("the network of the host has changed");
            commands.push(Command::NetworkChanged);
        }
    }

    /// All own addresses, if they are not what the node was told last.
    fn tell(&mut self) -> Option<Command> {
        let own = self.networks.iter().flat_map(|networks| &networks.addresses);
        let local = own.map(|address| (SocketAddr::new(*address, self.port), CandidateKind::Local));
        let mapped = self.mapped.iter().map(|address| (*address, CandidateKind::Mapped));
        let addresses: Vec<_> = mapped.chain(local).take(MAX_LOCAL).collect();
        if self.told.as_ref() == Some(&addresses) {
            return None;
        }
        self.told = Some(addresses.clone());
        Some(Command::SetLocal { addresses })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::process::Command as Program;
    use std::time::Duration;

    use nix::sched::{CloneFlags, unshare};
    use tokio::time::timeout;

    use super::*;
    use crate::io::udp;

    const PORT: u16 = 18502;

    fn ip(arguments: &str) -> String {
        let output = Program::new("ip").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{arguments}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// On a thread with a network namespace of its own, which has `eth0` with one address; not at all where that is not permitted.
    fn in_namespace<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
        let thread = std::thread::spawn(move || {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                println!("skipped: needs root");
                return;
            }
            ip("link add eth0 type veth peer name far");
            ip("link set far up");
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("link set eth0 up");
            // The kernel takes a moment to see the carrier.
            while !ip("link show eth0").contains("state UP") {
                std::thread::sleep(Duration::from_millis(5));
            }
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
        });
        thread.join().unwrap();
    }

    fn local(addresses: &[&str]) -> Vec<(SocketAddr, CandidateKind)> {
        addresses.iter().map(|ip| (SocketAddr::new(ip.parse().unwrap(), PORT), CandidateKind::Local)).collect()
    }

    /// All commands until one is as `is_last` says.
    async fn until(surroundings: &mut Surroundings, is_last: impl Fn(&Command) -> bool) -> Vec<Command> {
        let all = timeout(Duration::from_secs(10), async {
            let mut all: Vec<Command> = Vec::new();
            while !all.iter().any(&is_last) {
                all.extend(poll_fn(|cx| surroundings.poll_commands(cx)).await);
            }
            all
        });
        all.await.unwrap()
    }

    #[test]
    fn the_node_is_told_its_addresses_at_the_start_and_that_the_network_is_another_only_later() {
        in_namespace(|| async {
            let mut surroundings = Surroundings::new(0, PORT, Wishes::default());
            let is_told = |expected: &[&str]| {
                let expected = local(expected);
                move |command: &Command| matches!(command, Command::SetLocal { addresses } if *addresses == expected)
            };
            let first = until(&mut surroundings, is_told(&["192.0.2.1"])).await;
            assert!(!first.iter().any(|command| matches!(command, Command::NetworkChanged)), "{first:?}");
            ip("addr add 198.51.100.1/24 dev eth0");
            let then = until(&mut surroundings, |command| matches!(command, Command::NetworkChanged)).await;
            assert!(is_told(&["192.0.2.1", "198.51.100.1"])(&then[0]), "{then:?}");
            ip("route add default via 192.0.2.9");
            let last = until(&mut surroundings, |command| matches!(command, Command::NetworkChanged)).await;
            assert_eq!(last.len(), 1, "the addresses are the same: {last:?}");
        });
    }

    #[test]
    fn neighbours_are_told_as_soon_as_there_is_an_address_of_the_link() {
        in_namespace(|| async {
            let wishes = Wishes { lan_discovery: true, ..Wishes::default() };
            let mut surroundings = Surroundings::new(0, PORT, wishes);
            let is_joined = |command: &Command| matches!(command, Command::LinkJoined);
            ip("addr flush dev eth0");
            until(
                &mut surroundings,
                |command| matches!(command, Command::SetLocal { addresses } if addresses.is_empty()),
            )
            .await;
            ip("addr add fe80::1/64 dev eth0 nodad");
            let then = until(&mut surroundings, is_joined).await;
            assert!(then.iter().all(is_joined), "{then:?}");
        });
    }

    #[test]
    fn an_announcement_is_heard_by_another_daemon_of_the_same_host_if_both_want_it() {
        in_namespace(|| async {
            let wishes = Wishes { lan_discovery: true, ..Wishes::default() };
            let mut speaker = Surroundings::new(0, PORT, wishes);
            let mut listener = Surroundings::new(0, PORT, wishes);
            let mut silent = Surroundings::new(0, PORT, Wishes::default());
            let is_local = |command: &Command| matches!(command, Command::SetLocal { .. });
            for surroundings in [&mut speaker, &mut listener, &mut silent] {
                until(surroundings, is_local).await;
            }
            let pair = udp::bind(0, None, 1).unwrap().remove(0);
            let mut sender = pair.sender().unwrap();
            silent.announce(b"silence", &mut sender);
            assert_eq!(sender.counters().sent, 0);
            speaker.announce(b"here I am", &mut sender);
            let heard = until(&mut listener, |command| matches!(command, Command::Announced { .. })).await;
            let expected = SocketAddr::from(([192, 0, 2, 1], pair.port().unwrap()));
            let is_it = |command: &Command| matches!(command, Command::Announced { from, datagram } if *from == expected && datagram == b"here I am");
            assert!(heard.iter().any(is_it), "{heard:?}");
        });
    }
}
