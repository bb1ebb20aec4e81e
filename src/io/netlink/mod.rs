//! The overlay interface as the kernel sees it: addresses, routes, and the rule that puts them first.
//!
//! Routes of the overlay live in a routing table of their own, and one rule per IP version says `not fwmark MARK lookup TABLE`. So
//!
//! - no route that a DHCP server puts into the `main` table wins over the overlay, however long its prefix is;
//! - sealed datagrams, which carry the mark, do not see the table: a peer's prefixes may cover its own endpoint.
//!
//! The interface takes its addresses and routes with it when it goes; the rules are deleted by [`Overlay::remove`]. What a crash leaves behind is two
//! rules that look into an empty table; the next start finds and replaces them. Rules that somebody deletes meanwhile are put back.

mod rules;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use futures_util::stream::{Stream, TryStreamExt as _};
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::task::JoinHandle;

use self::rules::{Family, News, Rules};
pub use self::watch::{Lan, Networks, Watch};

/// Who made our routes and rules, in the kernel's numbering; unassigned in iproute2's `rt_protos`, and the letter H.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(0x48);

/// What the interface shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Index of the interface, which must exist.
    pub index: u32,
    /// Largest IP packet.
    pub mtu: u16,
    /// Own addresses, with the length of the network they are in.
    pub addresses: Vec<IpNet>,
    /// Where the peers are.
    pub prefixes: Vec<IpNet>,
    /// The routing table of the overlay, and the preference of the rule.
    pub table: u32,
}

/// An interface that is up, with its routes and rules.
#[derive(Debug)]
pub struct Overlay {
    handle: Handle,
    connection: JoinHandle<()>,
    rules: Rules,
    families: Vec<Family>,
    guard: Option<JoinHandle<()>>,
}

impl Overlay {
    /// Sets the interface up as planned: everything, or nothing but the interface itself, which is the caller's.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn set_up(plan: &Plan) -> Result<Self, NetlinkError> {
        let (connection, handle, news) =
            connect().map_err(|error| NetlinkError::Io { what: "reach the kernel".into(), error })?;
        let rules = Rules::new(handle.clone(), plan.table);
        let mut overlay = Self { handle, connection, rules, families: Vec::new(), guard: None };
        match overlay.apply(plan).await {
            Ok(()) => {
                overlay.guard = Some(tokio::spawn(overlay.rules.clone().guard(news)));
                Ok(overlay)
            }
            Err(error) => {
                // The first error is the one to report.
                let _ = overlay.remove().await;
                Err(error)
            }
        }
    }

    async fn apply(&mut self, plan: &Plan) -> Result<(), NetlinkError> {
        self.check_table(plan).await?;
        self.set_link(plan).await?;
        for address in &plan.addresses {
            self.add_address(plan.index, *address).await?;
        }
        for prefix in routed(plan) {
            self.add_route(plan.index, plan.table, prefix).await?;
        }
        // Last: from here on the host's packets go into the overlay.
        for family in [Family::V4, Family::V6].into_iter().filter(|family| family.is_wanted(plan)) {
            self.families.push(family);
            // What a crash left behind.
            self.rules.delete(family).await?;
            self.rules
                .add(family)
                .await
                .map_err(failed(|| format!("add the {family} rule for table {}", plan.table)))?;
        }
        Ok(())
    }

    /// Takes the rules away again. The interface goes when its descriptor is closed.
    ///
    /// # Errors
    /// See [`NetlinkError`]; all rules are tried.
    pub async fn remove(mut self) -> Result<(), NetlinkError> {
        if let Some(guard) = self.guard.take() {
            guard.abort();
            // It may be in the middle of putting a rule back.
            let _ = guard.await;
        }
        let mut result = Ok(());
        for family in std::mem::take(&mut self.families) {
            let deleted = self.rules.delete(family).await;
            result = result.and(deleted);
        }
        self.connection.abort();
        result
    }

    /// Two daemons with one table would delete each other's rules.
    async fn check_table(&self, plan: &Plan) -> Result<(), NetlinkError> {
        for family in [Family::V4, Family::V6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family.address_family();
            request.attributes.push(RouteAttribute::Table(plan.table));
            let mut routes = self.handle.route().get(request).execute();
            // An error says that there is no such table, or no such version of IP.
            if let Ok(Some(_)) = routes.try_next().await {
                return Err(NetlinkError::TableTaken { table: plan.table });
            }
        }
        Ok(())
    }

    async fn set_link(&self, plan: &Plan) -> Result<(), NetlinkError> {
        // Without link-local address the kernel does not solicit routers in the tunnel. Fails where there is no IPv6, which is as good.
        let no_link_local = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
            In6AddrGenMode::None,
        )])]);
        let quiet = LinkUnspec::new_with_index(plan.index).append_extra_attribute(no_link_local).build();
        let _ = self.handle.link().set(quiet).execute().await;
        let up = LinkUnspec::new_with_index(plan.index).mtu(u32::from(plan.mtu)).up().build();
        let what = || format!("set the interface up with MTU {}", plan.mtu);
        self.handle.link().set(up).execute().await.map_err(failed(what))
    }

    async fn add_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len()).replace();
        // The route to the network belongs into the overlay's table, not into `main`.
        let flags = AddressFlags::Noprefixroute | AddressFlags::Nodad;
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Flags(flags));
        // A tunnel has no broadcast, and the address that would be it may be a peer's.
        attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        request.execute().await.map_err(failed_for(address, || format!("add the address {address}")))
    }

    async fn add_route(&self, index: u32, table: u32, prefix: IpNet) -> Result<(), NetlinkError> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.addr(), prefix.prefix_len())
            .map_err(|error| NetlinkError::Io {
                what: format!("route {prefix}"),
                error: io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
            })?
            .output_interface(index)
            .table_id(table)
            .protocol(PROTOCOL)
            .scope(if prefix.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe })
            .build();
        let request = self.handle.route().add(route).replace();
        request.execute().await.map_err(failed_for(prefix, || format!("add a route to {prefix}")))
    }
}

/// A connection that answers questions strictly, and tells of every rule that anybody changes.
fn connect() -> io::Result<(JoinHandle<()>, Handle, impl Stream<Item = News> + Unpin + Send + 'static)> {
    let groups = [MulticastGroup::Ipv4Rule, MulticastGroup::Ipv6Rule];
    let (mut connection, handle, news) = rtnetlink::new_multicast_connection(&groups)?;
    connection.socket_mut().socket_mut().set_netlink_get_strict_chk(true)?;
    Ok((tokio::spawn(connection), handle, news))
}

/// The peers' prefixes and the networks of the own addresses: what has no peer in them ends in the overlay too, instead of leaving in clear.
fn routed(plan: &Plan) -> BTreeSet<IpNet> {
    let networks = plan.addresses.iter().filter(|net| net.prefix_len() < net.max_prefix_len());
    plan.prefixes.iter().chain(networks).map(IpNet::trunc).collect()
}

/// The interfaces on which IPv4 packets are dropped unless their source is routed back through the same one (`rp_filter`). Empty where that cannot be read.
pub fn strict_reverse_path() -> Vec<String> {
    const SETTINGS: &str = "/proc/sys/net/ipv4/conf";
    let read = |name: &str| -> Option<u8> {
        std::fs::read_to_string(format!("{SETTINGS}/{name}/rp_filter")).ok()?.trim().parse().ok()
    };
    let Ok(interfaces) = std::fs::read_dir(SETTINGS) else { return Vec::new() };
    let names = interfaces.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let all = read("all").unwrap_or(0);
    // The larger of the two settings counts; 2 is loose.
    let is_strict = |name: &String| read(name).unwrap_or(0).max(all) == 1;
    names.filter(|name| !matches!(&name[..], "all" | "default" | "lo")).filter(is_strict).collect()
}

/// What the kernel said, or what went wrong on the way to it.
fn to_io(error: &rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = error {
        message.to_io()
    } else {
        io::Error::other(error.to_string())
    }
}

fn failed(what: impl Fn() -> String) -> impl Fn(rtnetlink::Error) -> NetlinkError {
    move |error| {
        let error = to_io(&error);
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM) => NetlinkError::NotPermitted { what: what() },
            _ => NetlinkError::Io { what: what(), error },
        }
    }
}

/// As [`failed`], where IPv6 that is switched off may be the reason.
fn failed_for(net: IpNet, what: impl Fn() -> String) -> impl Fn(rtnetlink::Error) -> NetlinkError {
    move |error| match to_io(&error).raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::ENODEV) if net.addr().is_ipv6() => {
            NetlinkError::NoIpv6 { net }
        }
        _ => failed(&what)(error),
    }
}

/// Why the interface is not up.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The process lacks the right.
    #[error("not permitted to {what}: this needs CAP_NET_ADMIN")]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// The host has IPv6 switched off.
    #[error(
        "IPv6 is switched off on this host, so {net} cannot be set up: enable it (sysctl net.ipv6.conf.default.disable_ipv6=0) or take the IPv6 \
         addresses and prefixes out of the configuration"
    )]
    NoIpv6 {
        /// The address or prefix that needs it.
        net: IpNet,
    },
    /// Somebody else has routes in the table.
    #[error("routing table {table} holds the routes of somebody else: choose another `interface.table`")]
    TableTaken {
        /// The table.
        table: u32,
    },
    /// Anything else.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
}

#[cfg(test)]
pub(in crate::io) mod tests {
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::io::tun::Tun;

    /// Runs `body` on a thread with a network namespace of its own; not at all where that is not permitted.
    pub(in crate::io) fn in_namespace<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
        let thread = std::thread::spawn(move || {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                println!("skipped: needs root");
                return;
            }
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
        });
        thread.join().unwrap();
    }

    pub(in crate::io) fn ip(arguments: &str) -> String {
        run(&format!("ip {arguments}"))
    }

    pub(in crate::io) fn run(command: &str) -> String {
        let mut words = command.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A program that another test starts in this moment holds all descriptors until it runs, that of the interface too.
    pub(in crate::io) fn await_end_of(interface: &str) {
        for _ in 0..500 {
            if nix::net::if_::if_nametoindex(interface).is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{interface} is still there");
    }

    fn plan(tun: &Tun, addresses: &[&str], prefixes: &[&str]) -> Plan {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Plan { index: tun.index, mtu: 1280, addresses: nets(addresses), prefixes: nets(prefixes), table: 5200 }
    }

    fn rules() -> String {
        ip("-4 rule list") + &ip("-6 rule list")
    }

    #[test]
    fn the_overlay_comes_up_whole_and_leaves_nothing_behind() {
        in_namespace(|| async {
            let before = rules();
            let tun = Tun::create("hf0", 1, true).unwrap();
            let prefixes = ["10.77.0.2/32", "10.78.0.0/16", "fd77::2/128"];
            let overlay = Overlay::set_up(&plan(&tun, &["10.77.0.1/24", "fd77::1/64"], &prefixes)).await.unwrap();

            let link = ip("addr show hf0");
            for expected in ["mtu 1280", "UP", "inet 10.77.0.1/24", "inet6 fd77::1/64"] {
                assert!(link.contains(expected), "{expected} in {link}");
            }
            assert!(!link.contains("fe80"), "{link}");
            for (address, source) in [("10.77.0.2", "10.77.0.1"), ("10.77.0.99", "10.77.0.1"), ("fd77::2", "fd77::1")] {
                let route = ip(&format!("route get {address}"));
                assert!(route.contains("dev hf0") && route.contains(source), "{route}");
            }
            assert_eq!(ip("-4 route show table main"), "", "nothing in the main table");
            assert_eq!(rules().matches("5200:\tnot from all fwmark 0x4866 lookup 5200 proto 72").count(), 2);

            overlay.remove().await.unwrap();
            drop(tun);
            await_end_of("hf0");
            assert_eq!(rules(), before);
            assert!(!(ip("route show table all") + &ip("-6 route show table all")).contains("hf0"));
        });
    }

    #[test]
    fn a_route_in_the_main_table_does_not_win_however_long_its_prefix() {
        in_namespace(|| async {
            ip("link add eth0 type veth peer name far");
            ip("link set far up");
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("link set eth0 up");
            let tun = Tun::create("hf0", 1, true).unwrap();
            let overlay = Overlay::set_up(&plan(&tun, &["10.77.0.1/24"], &["0.0.0.0/0"])).await.unwrap();
            // As a DHCP server may inject by option 121.
            ip("route add 10.77.0.2/32 via 192.0.2.9 dev eth0");
            ip("route add 128.0.0.0/1 via 192.0.2.9 dev eth0");
            assert!(ip("route get 10.77.0.2").contains("dev hf0"));
            assert!(ip("route get 198.51.100.1").contains("dev hf0"));
            assert!(ip("route get 198.51.100.1 mark 0x4866").contains("dev eth0"), "our own datagrams stay below");
            overlay.remove().await.unwrap();
        });
    }

    #[test]
    fn rules_that_a_crash_left_behind_are_replaced_and_others_are_kept() {
        in_namespace(|| async {
            ip("rule add pref 5200 not fwmark 0x4866 lookup 5200 protocol 72");
            ip("rule add pref 5200 fwmark 0x1 lookup 5200");
            let tun = Tun::create("hf0", 1, true).unwrap();
            let overlay = Overlay::set_up(&plan(&tun, &["10.77.0.1/24"], &[])).await.unwrap();
            assert_eq!(rules().matches("not from all fwmark 0x4866").count(), 1, "IPv6 has no part in this overlay");
            overlay.remove().await.unwrap();
            assert_eq!(rules().matches("lookup 5200").count(), 1, "the administrator's own rule stays");
        });
    }

    #[test]
    fn a_rule_that_somebody_deletes_comes_back_while_the_overlay_is_up() {
        in_namespace(|| async {
            let tun = Tun::create("hf0", 1, true).unwrap();
            let overlay = Overlay::set_up(&plan(&tun, &["10.77.0.1/24"], &["fd77::2/128"])).await.unwrap();
            for family in ["-4", "-6"] {
                ip(&format!("{family} rule del pref 5200"));
                let mut attempts = 0;
                while !ip(&format!("{family} rule list")).contains("lookup 5200") {
                    attempts += 1;
                    assert!(attempts < 500, "the IPv{family} rule did not come back");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
            overlay.remove().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            assert!(!rules().contains("lookup 5200"), "and it goes when the overlay does");
        });
    }

    #[test]
    fn two_overlays_do_not_share_a_table() {
        in_namespace(|| async {
            let first = Tun::create("hf0", 1, true).unwrap();
            let overlay = Overlay::set_up(&plan(&first, &["10.77.0.1/24"], &[])).await.unwrap();
            let second = Tun::create("hf1", 1, true).unwrap();
            let refused = Overlay::set_up(&plan(&second, &["10.99.0.1/24"], &[])).await;
            assert!(matches!(refused, Err(NetlinkError::TableTaken { table: 5200 })), "{refused:?}");
            assert_eq!(rules().matches("lookup 5200").count(), 1, "the first one is not disturbed");
            overlay.remove().await.unwrap();
        });
    }

    #[test]
    fn ipv6_that_is_switched_off_is_named_as_the_reason() {
        in_namespace(|| async {
            std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
            let before = rules();
            for (name, addresses, prefixes) in
                [("hf0", &["fd77::1/64"][..], &[][..]), ("hf1", &["10.77.0.1/24"], &["fd77::2/128"])]
            {
                let tun = Tun::create(name, 1, true).unwrap();
                let refused = Overlay::set_up(&plan(&tun, addresses, prefixes)).await;
                assert!(matches!(refused, Err(NetlinkError::NoIpv6 { .. })), "{refused:?}");
                assert_eq!(rules(), before);
            }
        });
    }
}
