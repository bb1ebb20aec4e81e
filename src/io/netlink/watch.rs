//! What the host's own networks are, and when they change.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{Stream, StreamExt as _, TryStreamExt as _};
use nix::errno::Errno;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::rules::{Family, News};
use super::to_io;
use crate::io::MARK;

/// Addresses that are told, at most.
const MAX_ADDRESSES: usize = 16;

/// Interfaces that are told, at most: a host of containers has hundreds.
const MAX_LANS: usize = 32;

/// Changes come in flocks: what happens within this time is looked at once.
const SETTLE: Duration = Duration::from_millis(200);

/// Before the kernel is asked again after it did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Two root servers of the DNS, which are as far from anywhere as can be. Nothing is sent to them: the kernel is only asked which way they are.
const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30))];

/// The host's networks at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Own addresses at which others may reach this host: the public ones first; none of the overlay, of the loopback or of one link only.
    pub addresses: Vec<IpAddr>,
    /// Where neighbours can be spoken to by multicast.
    pub lans: Vec<Lan>,
    /// The ways out, over IPv4 and over IPv6.
    ways: [Option<Way>; 2],
}

/// An interface with neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lan {
    /// Of the interface.
    pub index: u32,
    /// One of its addresses; `None` if it has none of IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Whether it speaks IPv6.
    pub v6: bool,
}

/// Where the host sends what goes far away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Way {
    interface: Option<u32>,
    attributes: Vec<RouteAttribute>,
}

impl Networks {
    /// The router of IPv4 on the way out, and the own address towards it; `None` if there is no router.
    pub fn router(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let way = self.ways[0].as_ref()?;
        let (mut router, mut own) = (None, None);
        for attribute in &way.attributes {
            #[expect(clippy::wildcard_enum_match_arm, reason = "only these two are asked for")]
            match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => router = Some(*address),
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => own = Some(*address),
                _ => {}
            }
        }
        router.zip(own)
    }

    /// Whether datagrams may leave another way, or come from another address, than they did at the time of `before`.
    pub fn has_moved_since(&self, before: &Self) -> bool {
        self.addresses != before.addresses || self.ways != before.ways
    }
}

/// Tells of the host's networks: at once, and whenever they are different.
#[derive(Debug)]
pub struct Watch {
    receiver: mpsc::Receiver<Networks>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to watch; `overlay` is the index of the interface that does not count.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(overlay: u32) -> Self {
        // Whoever is slow to ask gets what is true by then.
        let (sender, receiver) = mpsc::channel(1);
        Self { receiver, task: tokio::spawn(watch(overlay, sender)) }
    }

    /// The networks, if they are not as they were when this was ready last.
    pub fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Networks> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(networks)) => Poll::Ready(networks),
            // The task does not end before the receiver.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(overlay: u32, sender: mpsc::Sender<Networks>) {
    let mut told = None;
    while let Err(error) = follow(overlay, &sender, &mut told).await {
        tracing::debug!(%error, "the kernel does not tell of its networks");
        sleep(PAUSE).await;
    }
}

/// Ends well when nobody listens any more.
async fn follow(overlay: u32, sender: &mpsc::Sender<Networks>, told: &mut Option<Networks>) -> io::Result<()> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, handle, mut news) = rtnetlink::new_multicast_connection(&groups)?;
    let observation = async {
        loop {
            let networks = observe(&handle, overlay).await?;
            if told.as_ref() != Some(&networks) {
                *told = Some(networks.clone());
                if sender.send(networks).await.is_err() {
                    return Ok(());
                }
            }
            await_change(&mut news).await?;
            sleep(SETTLE).await;
            while news.next().now_or_never().flatten().is_some() {}
        }
    };
    unless(connection, observation).await
}

/// What `work` comes to, unless `connection` is lost before.
async fn unless(connection: impl Future<Output = ()>, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let (connection, work) = (pin!(connection), pin!(work));
    tokio::select! {
        result = work => result,
        () = connection => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

async fn await_change(news: &mut (impl Stream<Item = News> + Unpin)) -> io::Result<()> {
    while let Some((message, _)) = news.next().await {
        if is_of_interest(&message.payload) {
            return Ok(());
        }
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kernel tells of much else")]
fn is_of_interest(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(message) => match message {
            RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_)
            | RouteNetlinkMessage::NewLink(_)
            | RouteNetlinkMessage::DelLink(_) => true,
            // A router of the internet hears of thousands of routes a second; here only those to everywhere count, of which there may be two halves.
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                route.header.destination_prefix_length <= 1
            }
            _ => false,
        },
        // Something was missed.
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

async fn observe(handle: &Handle, overlay: u32) -> io::Result<Networks> {
    let failed = |error: rtnetlink::Error| to_io(&error);
    let mut links = handle.link().get().execute();
    let mut carriers = Vec::new();
    let mut lans = Vec::new();
    while let Some(link) = links.try_next().await.map_err(failed)? {
        let (index, flags) = (link.header.index, link.header.flags);
        // Without a carrier (a cable, a container) nobody is there. The kernel calls that not running.
        let is_alive = flags.contains(LinkFlags::Up | LinkFlags::Running);
        if !is_alive || flags.contains(LinkFlags::Loopback) || index == overlay {
            continue;
        }
        carriers.push(index);
        // A tunnel has no neighbours.
        if flags.contains(LinkFlags::Multicast) && !flags.contains(LinkFlags::Pointopoint) {
            lans.push(Lan { index, v4: None, v6: false });
        }
    }
    let mut addresses = Vec::new();
    let mut messages = handle.address().get().execute();
    while let Some(message) = messages.try_next().await.map_err(failed)? {
        let index = message.header.index;
        let Some(address) = usable(&message).filter(|_| carriers.contains(&index)) else { continue };
        if let Some(lan) = lans.iter_mut().find(|lan| lan.index == index) {
            match address {
                IpAddr::V4(address) => lan.v4 = lan.v4.or(Some(address)),
                IpAddr::V6(_) => lan.v6 = true,
            }
        }
        if !is_of_one_link(address) {
            addresses.push((is_private(address), index, address));
        }
    }
    // The interfaces of containers come later than those of the host.
    addresses.sort_unstable();
    let mut addresses: Vec<IpAddr> = addresses.into_iter().map(|(_, _, address)| address).collect();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    lans.retain(|lan| lan.v4.is_some() || lan.v6);
    lans.sort_unstable();
    lans.truncate(MAX_LANS);
    let ways = [way(handle, Family::V4, FAR[0]).await?, way(handle, Family::V6, FAR[1]).await?];
    Ok(Networks { addresses, lans, ways })
}

/// The host's own address that a message tells of, if it may be used.
fn usable(message: &AddressMessage) -> Option<IpAddr> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut own, mut other) = (None, None);
    for attribute in &message.attributes {
        #[expect(clippy::wildcard_enum_match_arm, reason = "an address has much that is of no interest here")]
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            // That of the other end, where there is one; else the same.
            AddressAttribute::Address(address) => other = Some(*address),
            AddressAttribute::Flags(all) => flags |= *all,
            _ => {}
        }
    }
    // Somebody else may have it, or does; or it goes soon.
    let unfit = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    let address = own.or(other)?;
    (!flags.intersects(unfit) && !address.is_unspecified() && !address.is_multicast() && !address.is_loopback())
        .then_some(address)
}

fn is_of_one_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        // RFC 1918, and RFC 6598 for the NAT of a provider.
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// The way to `far`, which datagrams of this program take; `None` if there is none.
async fn way(handle: &Handle, family: Family, far: IpAddr) -> io::Result<Option<Way>> {
    let mut request = RouteMessage::default();
    request.header.address_family = family.address_family();
    request.header.destination_prefix_length = if far.is_ipv4() { 32 } else { 128 };
    request.attributes.extend([RouteAttribute::Destination(far.into()), RouteAttribute::Mark(MARK)]);
    let mut routes = pin!(handle.route().get(request).execute());
    match routes.try_next().await {
        Ok(route) => Ok(route.map(|route| Way::of(&route))),
        Err(error) => {
            let error = to_io(&error);
            match error.raw_os_error().map(Errno::from_raw) {
                // No way, an administrator who forbids it, or no such version of IP.
                Some(_) => Ok(None),
                None => Err(error),
            }
        }
    }
}

impl Way {
    fn of(route: &RouteMessage) -> Self {
        let mut way = Self::default();
        for attribute in &route.attributes {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the rest changes while the way stays")]
            match attribute {
                RouteAttribute::Oif(index) => way.interface = Some(*index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::PrefSource(_) => {
                    way.attributes.push(attribute.clone());
                }
                _ => {}
            }
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;
    use crate::io::netlink::tests::{in_namespace, ip};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn wire(name: &str) {
        ip(&format!("link add {name} type veth peer name {name}-far"));
        ip(&format!("link set {name}-far up"));
        ip(&format!("link set {name} up"));
    }

    fn index(name: &str) -> u32 {
        nix::net::if_::if_nametoindex(name).unwrap()
    }

    /// The next state that is as `expected` says; those on the way there do not matter.
    async fn until(watch: &mut Watch, expected: impl Fn(&Networks) -> bool) -> Networks {
        let mut last = None;
        let found = timeout(PATIENCE, async {
            loop {
                let networks = poll_fn(|cx| watch.poll_change(cx)).await;
                if expected(&networks) {
                    return networks;
                }
                last = Some(networks);
            }
        });
        let found = found.await;
        found.unwrap_or_else(|_| panic!("last seen: {last:?}"))
    }

    async fn is_quiet(watch: &mut Watch) -> bool {
        timeout(4 * SETTLE, poll_fn(|cx| watch.poll_change(cx))).await.is_err()
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn own_addresses_are_told_the_public_ones_first_and_none_that_nobody_can_reach() {
        in_namespace(|| async {
            ip("link set lo up");
            wire("eth0");
            wire("hf9");
            wire("dark");
            ip("link set dark-far down");
            for (address, device) in [
                ("10.1.0.1/24", "eth0"),
                ("198.51.100.7/24", "eth0"),
                ("169.254.7.7/16", "eth0"),
                ("fd00:1::1/64", "eth0"),
                ("2001:db8:1::1/64", "eth0"),
                ("10.77.0.1/24", "hf9"),
                ("10.88.0.1/24", "dark"),
                ("192.0.2.1/32", "lo"),
            ] {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                ip(&format!("addr add {address} dev {device}{nodad}"));
            }
            ip("addr add 2001:db8:1::2/64 dev eth0 nodad preferred_lft 0");
            let mut watch = Watch::start(index("hf9"));
            let expected = addresses(&["198.51.100.7", "2001:db8:1::1", "10.1.0.1", "fd00:1::1"]);
            let networks = until(&mut watch, |networks| networks.addresses == expected).await;
            let lan = networks.lans.iter().find(|lan| lan.index == index("eth0")).unwrap();
            assert!(lan.v4.is_some() && lan.v6, "{lan:?}");
            assert!(networks.lans.iter().all(|lan| lan.index != index("hf9") && lan.index != index("dark")));
        });
    }

    #[test]
    fn an_address_that_somebody_else_may_have_is_told_when_that_is_settled() {
        in_namespace(|| async {
            wire("eth0");
            let mut watch = Watch::start(0);
            ip("addr add 2001:db8:1::1/64 dev eth0");
            assert!(ip("addr show dev eth0 tentative").contains("2001:db8:1::1"), "the kernel looks for others first");
            let mine = addresses(&["2001:db8:1::1"]);
            until(&mut watch, |networks| networks.addresses == mine).await;
            assert!(!ip("addr show dev eth0 tentative").contains("2001:db8:1::1"));
        });
    }

    #[test]
    fn changes_are_told_and_the_same_again_is_not() {
        in_namespace(|| async {
            wire("eth0");
            ip("addr add 10.1.0.1/24 dev eth0");
            let mut watch = Watch::start(0);
            let is_settled = |networks: &Networks| networks.lans.len() == 2 && networks.lans.iter().all(|lan| lan.v6);
            let before = until(&mut watch, is_settled).await;
            // Renewed as by DHCP, and a route that leads nowhere far.
            ip("addr replace 10.1.0.1/24 dev eth0 valid_lft 1000 preferred_lft 1000");
            ip("route add 10.9.0.0/16 via 10.1.0.9");
            assert!(is_quiet(&mut watch).await);

            ip("route add default via 10.1.0.9");
            let gateway = until(&mut watch, |_| true).await;
            assert_eq!(gateway.addresses, before.addresses);
            assert!(gateway.has_moved_since(&before));
            assert_eq!(gateway.router(), Some(([10, 1, 0, 9].into(), [10, 1, 0, 1].into())));
            ip("route replace default via 10.1.0.8");
            assert!(until(&mut watch, |_| true).await.has_moved_since(&gateway));
            ip("route replace default via 10.1.0.8");
            assert!(is_quiet(&mut watch).await);

            ip("addr add 10.2.0.1/24 dev eth0");
            until(&mut watch, |networks| networks.addresses == addresses(&["10.1.0.1", "10.2.0.1"])).await;
            ip("link set eth0-far down");
            until(&mut watch, |networks| networks.addresses.is_empty() && networks.lans.is_empty()).await;
            ip("link set eth0-far up");
            until(&mut watch, |networks| networks.addresses == addresses(&["10.1.0.1", "10.2.0.1"])).await;
        });
    }

    #[test]
    fn a_flock_of_changes_is_few_states() {
        in_namespace(|| async {
            wire("eth0");
            let mut watch = Watch::start(0);
            for number in 1..=40 {
                ip(&format!("addr add 10.1.0.{number}/24 dev eth0"));
            }
            let mut states = 0;
            let last = timeout(PATIENCE, async {
                loop {
                    let networks = poll_fn(|cx| watch.poll_change(cx)).await;
                    states += 1;
                    if networks.addresses.len() == MAX_ADDRESSES {
                        return networks;
                    }
                }
            });
            let last = last.await.unwrap();
            assert!(states < 10, "{states}");
            assert_eq!(last.addresses[..2], addresses(&["10.1.0.1", "10.1.0.2"]));
        });
    }
}
