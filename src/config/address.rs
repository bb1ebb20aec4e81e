//! Networks and endpoints as they are written.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{DEFAULT_PORT, Endpoint};
use crate::base::link;

/// What an address of the interface may be.
pub(super) const ADDRESS: &str = r#"own addresses with their network's length, such as "10.77.0.1/24" or "fd77::1/64""#;
/// What a prefix may be.
pub(super) const PREFIX: &str = r#"prefixes such as "10.77.0.2/32" or "fd77:2::/64""#;
/// What an endpoint may be.
pub(super) const ENDPOINT: &str =
    r#"endpoints such as "192.0.2.2:18502", "[2001:db8::2]:18502" or "b.example.org:18502""#;

/// An address of the interface: host bits stay.
pub(super) fn address(text: &str) -> Result<IpNet, String> {
    let net = net(text)?;
    let ip = net.addr();
    let usable = !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_mapped(ip));
    if !usable {
        return Err("is not an address that an interface can have".to_owned());
    }
    let is_network = net.prefix_len() + 1 < net.max_prefix_len() && ip == net.network();
    let is_broadcast = ip.is_ipv4() && net.prefix_len() + 1 < net.max_prefix_len() && ip == net.broadcast();
    if is_network || is_broadcast {
        return Err(format!(
            "names the network, not an address in it; write the node's own address, such as \"{}\"",
            first(net)
        ));
    }
    Ok(net)
}

/// A prefix: no host bits.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    let net = net(text)?;
    if net.trunc() != net {
        return Err(format!(
            "has host bits set; write \"{}\" for the network or \"{}/{}\" for the one address",
            net.trunc(),
            net.addr(),
            net.max_prefix_len()
        ));
    }
    if net.addr().is_loopback() || (net.prefix_len() >= 96 && is_mapped(net.addr())) {
        return Err("cannot lie behind a peer".to_owned());
    }
    Ok(net)
}

/// A place in the underlay.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return socket(link::canonical(address)).map(Endpoint::Address);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Err(format!("needs a port; write \"{}\"", SocketAddr::new(ip, DEFAULT_PORT)));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("needs a port; write \"{text}:{DEFAULT_PORT}\""));
    };
    let port =
        port.parse::<u16>().ok().filter(|port| *port != 0).ok_or("needs a port from 1 to 65535 behind the colon")?;
    let host = host.strip_suffix('.').unwrap_or(host);
    if !is_host_name(host) {
        return Err(format!("is neither an address nor a host name; accepted: {ENDPOINT}"));
    }
    Ok(Endpoint::Name { host: host.to_owned(), port })
}

fn net(text: &str) -> Result<IpNet, String> {
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(net);
    }
    match text.parse::<IpAddr>() {
        Ok(ip) => {
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            Err(format!("needs a length; write \"{ip}/{bits}\" for the one address"))
        }
        Err(_) => {
            Err("is not an IPv4 or IPv6 address with a length, such as \"10.77.0.0/24\" or \"fd77::/64\"".to_owned())
        }
    }
}

fn socket(address: SocketAddr) -> Result<SocketAddr, String> {
    if address.port() == 0 {
        return Err("has port 0; accepted: 1 to 65535".to_owned());
    }
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return Err("is not the address of one host".to_owned());
    }
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            Err(format!("is link-local and needs the index of its interface: \"[{}%2]:{}\"", v6.ip(), v6.port()))
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Ok(address),
    }
}

/// Labels of letters, digits, `-` and `_` (RFC 1123, and what is found in the wild). A last label of digits only is a mistyped address.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last_is_number = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= 253 && host.split('.').all(label) && !last_is_number
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// The first host of `net`, with the length of `net`.
fn first(net: IpNet) -> IpNet {
    net.hosts().next().and_then(|host| IpNet::new(host, net.prefix_len()).ok()).unwrap_or(net)
}
