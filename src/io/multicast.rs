//! Neighbours on the same link: what is said to all of them, and what they say.
//!
//! Datagrams to the groups are *sent* by the data sockets ([`destinations`]), so that their source is where the sender is reached. Here are only the sockets that *receive*: one for each
//! interface and version of IP, bound to the group itself. So nothing that is sent to an address of the host comes in here, however it got there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::netlink::Lan;
use crate::base::Link;
use crate::base::link::canonical;

/// UDP port of the groups (PROTOCOL §12.7).
pub const PORT: u16 = 18503;

/// Of the scope that an administrator may bound (RFC 2365).
pub const V4_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 72, 70);

/// Of the link.
pub const V6_GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x4866, 0x4146);

/// Longer datagrams are nothing for this program.
const LONGEST: usize = 64;

/// Datagrams are taken 20 times a second; more wait in the kernel until its small buffer is full.
const PACE: Duration = Duration::from_millis(50);

/// Of each socket; the kernel counts more than half a kilobyte for a small datagram.
const RECEIVE_BUFFER: usize = 32 << 10;

/// After an error of a socket.
const PAUSE: Duration = Duration::from_secs(1);

/// What a socket heard: the source, and the datagram.
type Heard = (SocketAddr, Vec<u8>);

/// Where a datagram for the neighbours on `lans` goes. It passes no router.
pub fn destinations(lans: &[Lan]) -> impl Iterator<Item = Link> + '_ {
    lans.iter().flat_map(|lan| {
        let v6 = SocketAddr::V6(SocketAddrV6::new(V6_GROUP, PORT, 0, lan.index));
        let v4 = SocketAddr::V4(SocketAddrV4::new(V4_GROUP, PORT));
        // The source address decides on which interface it leaves.
        let v4 = lan.v4.map(|address| Link::new(Some(address.into()), v4));
        v4.into_iter().chain(lan.v6.then(|| Link::to(v6))).map(|link| link.within(1))
    })
}

/// Listens to the groups on some interfaces; others of this host may do so too.
#[derive(Debug)]
pub struct Listener {
    ears: BTreeMap<Ear, JoinHandle<()>>,
    sender: mpsc::Sender<Heard>,
    receiver: mpsc::Receiver<Heard>,
    /// Waits for its turn.
    next: Option<Heard>,
    pace: Interval,
}

/// What one socket listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ear {
    V4 { index: u32 },
    V6 { index: u32 },
}

impl Listener {
    /// Listens to nobody yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(1);
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ears: BTreeMap::new(), sender, receiver, next: None, pace }
    }

    /// Listens on these interfaces from now on, and on no others. Where that cannot be, nobody is heard.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen_on(&mut self, lans: &[Lan]) {
        let v4 = lans.iter().filter(|lan| lan.v4.is_some()).map(|lan| Ear::V4 { index: lan.index });
        let v6 = lans.iter().filter(|lan| lan.v6).map(|lan| Ear::V6 { index: lan.index });
        let wanted: BTreeSet<Ear> = v4.chain(v6).collect();
        self.ears.retain(|ear, task| {
            let keep = wanted.contains(ear);
            if !keep {
                task.abort();
            }
            keep
        });
        for ear in wanted {
            if self.ears.contains_key(&ear) {
                continue;
            }
            match ear.open() {
                Ok(socket) => {
                    self.ears.insert(ear, tokio::spawn(listen(socket, self.sender.clone())));
                }
                Err(error) => tracing::debug!(?ear, %error, "neighbours on an interface cannot be heard"),
            }
        }
    }

    /// The next datagram to a group, with its source.
    pub fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        if self.next.is_none() {
            // The channel does not close, since a sender is kept here.
            self.next = ready!(self.receiver.poll_recv(cx));
        }
        ready!(self.pace.poll_tick(cx));
        self.next.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ears.values().for_each(JoinHandle::abort);
    }
}

impl Ear {
    fn open(self) -> io::Result<UdpSocket> {
        let domain = match self {
            Self::V4 { .. } => Domain::IPV4,
            Self::V6 { .. } => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // Whoever else listens gets a copy, whichever user he is.
        socket.set_reuse_address(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        match self {
            Self::V4 { index } => {
                // Not what others of this host have joined, on other interfaces.
                socket.set_multicast_all_v4(false)?;
                socket.bind(&SocketAddrV4::new(V4_GROUP, PORT).into())?;
                socket.join_multicast_v4_n(&V4_GROUP, &InterfaceIndexOrAddress::Index(index))?;
            }
            Self::V6 { index } => {
                socket.set_only_v6(true)?;
                socket.set_multicast_all_v6(false)?;
                socket.bind(&SocketAddrV6::new(V6_GROUP, PORT, 0, index).into())?;
                socket.join_multicast_v6(&V6_GROUP, index)?;
            }
        }
        UdpSocket::from_std(socket.into())
    }
}

async fn listen(socket: UdpSocket, heard: mpsc::Sender<Heard>) {
    let mut buffer = [0; LONGEST + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                let Some(datagram) = buffer.get(..len).filter(|_| (1..=LONGEST).contains(&len)) else {
                    // It has cost something all the same.
                    sleep(PACE).await;
                    continue;
                };
                if heard.send((canonical(from), datagram.to_vec())).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a socket for neighbours has failed");
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::mpsc::channel;
    use std::thread::spawn;

    use nix::sched::{CloneFlags, unshare};
    use nix::unistd::gettid;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::base::TxSink as _;
    use crate::io::netlink::tests::{in_namespace, ip};
    use crate::io::netlink::{Networks, Watch};
    use crate::io::udp::{Sender, bind};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn index(name: &str) -> u32 {
        nix::net::if_::if_nametoindex(name).unwrap()
    }

    async fn until(expected: impl Fn(&Networks) -> bool) -> Networks {
        let mut watch = Watch::start(0);
        let found = timeout(PATIENCE, async {
            loop {
                let networks = poll_fn(|cx| watch.poll_change(cx)).await;
                if expected(&networks) {
                    return networks;
                }
            }
        });
        found.await.unwrap()
    }

    fn has_both(networks: &Networks) -> bool {
        networks.lans.iter().any(|lan| lan.v4.is_some() && lan.v6)
    }

    async fn heard(listener: &mut Listener) -> Heard {
        timeout(PATIENCE, poll_fn(|cx| listener.poll_heard(cx))).await.unwrap()
    }

    fn send(sender: &mut Sender, link: Link, datagram: &[u8]) {
        sender.transmit(link, datagram.len(), |room| room.copy_from_slice(datagram));
        sender.flush();
    }

    /// A second namespace, in which `body` runs on a thread of its own; `name` is put there first.
    fn beside<T: Send + 'static, F: Future<Output = T>>(
        name: &str,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let (there, thread) = channel();
        let (moved, go) = channel();
        let result = spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            there.send(gettid()).unwrap();
            go.recv().unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body())
        });
        ip(&format!("link set {name} netns {}", thread.recv().unwrap()));
        moved.send(()).unwrap();
        result
    }

    #[test]
    fn neighbours_hear_from_which_port_they_can_be_reached_and_several_on_one_host_all_hear() {
        in_namespace(|| async {
            ip("link add eth0 type veth peer name eth1");
            let far = beside("eth1", || async {
                ip("addr add 192.0.2.2/24 dev eth1");
                ip("link set eth1 up");
                let networks = until(has_both).await;
                let mut listeners = [Listener::new(), Listener::new()];
                let mut all = Vec::new();
                for listener in &mut listeners {
                    listener.listen_on(&networks.lans);
                    listener.listen_on(&networks.lans);
                }
                for listener in &mut listeners {
                    let mut sources = BTreeSet::new();
                    while sources.len() < 2 {
                        let (from, datagram) = heard(listener).await;
                        assert_eq!(datagram, b"here I am");
                        sources.insert(from);
                    }
                    all.push(sources);
                }
                assert!(all[0] == all[1], "{all:?}");
                (index("eth1"), all.remove(0))
            });
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("link set eth0 up");
            let networks = until(has_both).await;
            let pair = bind(0, None, 1).unwrap().remove(0);
            let (port, mut sender) = (pair.port().unwrap(), pair.sender().unwrap());
            while !far.is_finished() {
                for link in destinations(&networks.lans) {
                    send(&mut sender, link, b"here I am");
                }
                sleep(Duration::from_millis(100)).await;
            }
            let (scope, sources) = far.join().unwrap();
            let sources: Vec<SocketAddr> = sources.into_iter().collect();
            assert_eq!(sources[0], SocketAddr::from(([192, 0, 2, 1], port)));
            let SocketAddr::V6(v6) = sources[1] else { panic!("{sources:?}") };
            assert!(v6.ip().is_unicast_link_local() && v6.scope_id() == scope && v6.port() == port, "{v6}");
            assert_eq!(sender.counters().sent % 2, 0, "{:?}", sender.counters());
        });
    }

    #[test]
    fn what_is_not_for_the_group_or_of_another_interface_or_too_long_is_not_heard() {
        in_namespace(|| async {
            for (name, address) in [("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")] {
                ip(&format!("link add {name} type veth peer name {name}-far"));
                ip(&format!("link set {name}-far up"));
                ip(&format!("addr add {address} dev {name}"));
                ip(&format!("link set {name} up"));
            }
            ip("link set lo up");
            let [eth0, eth1] = [("eth0", [192, 0, 2, 1]), ("eth1", [198, 51, 100, 1])].map(|(name, address)| Lan {
                index: index(name),
                v4: Some(address.into()),
                v6: false,
            });
            let mut listener = Listener::new();
            listener.listen_on(&[eth0]);
            // Another program of the host has joined there.
            let mut other = Listener::new();
            other.listen_on(&[eth1]);
            let mut sender = bind(0, None, 1).unwrap()[0].sender().unwrap();
            // What is sent to a group comes back to its own host.
            let group = |lan| destinations(&[lan]).next().unwrap();
            send(&mut sender, Link::to(SocketAddr::from(([192, 0, 2, 1], PORT))), b"to one host");
            send(&mut sender, group(eth1), b"on another interface");
            send(&mut sender, group(eth0), &[0; LONGEST + 1]);
            send(&mut sender, group(eth0), b"");
            send(&mut sender, group(eth0), &[1; LONGEST]);
            assert_eq!(heard(&mut listener).await.1, [1; LONGEST]);
            assert_eq!(heard(&mut other).await.1, b"on another interface");

            listener.listen_on(&[eth1]);
            // The socket goes when its task is looked after.
            sleep(Duration::from_millis(50)).await;
            send(&mut sender, group(eth0), b"on the interface of before");
            send(&mut sender, group(eth1), b"on the present one");
            assert_eq!(heard(&mut listener).await.1, b"on the present one");
        });
    }

    #[test]
    fn a_flood_on_the_link_is_heard_twenty_times_a_second() {
        in_namespace(|| async {
            ip("link add eth0 type veth peer name far");
            ip("link set far up");
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("link set eth0 up");
            let lan = Lan { index: index("eth0"), v4: Some([192, 0, 2, 1].into()), v6: false };
            let mut listener = Listener::new();
            listener.listen_on(&[lan]);
            let mut sender = bind(0, None, 1).unwrap()[0].sender().unwrap();
            for _ in 0..10_000 {
                send(&mut sender, destinations(&[lan]).next().unwrap(), b"here I am");
            }
            let end = Instant::now() + Duration::from_secs(1);
            let mut count = 0;
            while tokio::time::timeout_at(end, poll_fn(|cx| listener.poll_heard(cx))).await.is_ok() {
                count += 1;
            }
            assert!((10..=21).contains(&count), "{count}");
        });
    }
}
