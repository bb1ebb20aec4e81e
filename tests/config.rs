//! The configuration file: what is accepted, and what exactly is said about what is not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use handfast::base::{OuterDscp, Rng};
use handfast::config::{Config, Endpoint, KEYS, Relay, key, keyfile};
use handfast::crypto::keys::IdentitySecret;
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../config/handfast.example.toml");
const MINIMAL: &str = include_str!("../config/handfast.minimal.toml");
const MANUAL: &str = include_str!("../man/handfast.toml.5");

fn public(number: u64) -> String {
    key::format_public(&IdentitySecret::generate(&mut Rng::from_number(number)).id())
}

fn config(text: &str) -> Config {
    Config::parse(text, "t.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn fault(text: &str) -> String {
    Config::parse(text, "t.toml").expect_err(text).to_string()
}

/// A file with one `line` in its interface section.
fn interface(line: &str) -> String {
    format!("[interface]\naddresses = [\"10.0.0.1/24\"]\n{line}\n")
}

/// A file with a peer `b`, whose section ends with `lines`, on line 6 and after.
fn peer(lines: &str) -> String {
    format!(
        "[interface]\naddresses = [\"10.0.0.1/24\"]\n[[peer]]\nname = \"b\"\npublic_key = \"{}\"\n{lines}\n",
        public(1)
    )
}

/// Two peers; `prefixes` are the TOML lists of both.
fn two(prefixes: [&str; 2]) -> String {
    let [first, second] = prefixes;
    peer(&format!("prefixes = {first}\n[[peer]]\nname = \"c\"\npublic_key = \"{}\"\nprefixes = {second}", public(2)))
}

/// A file with one channel rule, on line 5.
fn rule(matches: &str) -> String {
    format!("[interface]\naddresses = [\"10.0.0.1/24\"]\n[[channel]]\nname = \"x\"\nmatch = {matches}\n")
}

#[test]
fn the_minimal_example_means_what_it_says_and_the_rest_are_the_documented_defaults() {
    let config = config(MINIMAL);
    assert_eq!(config.interface.name, "hf0");
    assert_eq!(config.interface.addresses, ["10.77.0.1/24".parse().unwrap()]);
    assert_eq!(config.interface.mtu, 1400);
    assert!(config.interface.offload);
    assert_eq!(config.interface.threads, None);
    assert_eq!(config.interface.dscp, OuterDscp::Fixed(0));
    assert_eq!(config.interface.table, 5200);
    assert_eq!(config.key_file, Path::new("/var/lib/handfast/identity.key"));
    assert_eq!(config.port, 18502);
    assert_eq!(config.control_socket, Path::new("/run/handfast/hf0.sock"));
    assert!(config.lan_discovery && !config.port_mapping);
    assert_eq!(config.relay, None);
    assert_eq!(config.peers.len(), 1);
    assert_eq!(config.peers[0].endpoints, [Endpoint::Address("192.0.2.2:18502".parse().unwrap())]);
    assert_eq!(config.peers[0].keepalive, None);
    assert!(config.channels.is_empty());
}

#[test]
fn the_full_example_is_accepted() {
    let config = config(EXAMPLE);
    let [b, office, laptop] = config.peers.as_slice() else { panic!("three peers") };
    let expected: [SocketAddr; 2] = ["192.0.2.2:18502".parse().unwrap(), "[2001:db8::2]:18502".parse().unwrap()];
    assert_eq!(b.endpoints[..2], expected.map(Endpoint::Address));
    assert_eq!(b.endpoints[2], Endpoint::Name { host: "b.example.org".to_owned(), port: 18502 });
    assert_eq!(office.keepalive, Some(Duration::from_secs(25)));
    assert!(laptop.endpoints.is_empty());
    assert_eq!(config.relay, Some(Relay { max_mbit: 100, max_members: 64 }));
    let [syslog, telemetry, control] = config.channels.as_slice() else { panic!("three channels") };
    assert_eq!((syslog.matches.protocol, syslog.matches.ports.clone()), (Some(17), Some(514..=514)));
    assert_eq!(telemetry.matches.ports, Some(6000..=6010));
    assert_eq!(control.matches.dscp, Some(48));
}

#[test]
fn the_full_example_and_the_manual_name_every_key_and_default() {
    for (section, keys) in KEYS {
        let header = [format!("\n[{section}]\n"), format!("\n[[{section}]]\n"), format!("\n{section} = {{")];
        assert!(header.iter().any(|header| EXAMPLE.contains(header)), "no example of {section}");
        for key in *keys {
            let shown = EXAMPLE
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")) || line.contains(&format!("#   {key} ")));
            assert!(shown, "no example of {section}.{key}");
            assert!(
                MANUAL.lines().any(|line| line.starts_with(&format!(".It Cm {key}"))),
                "{section}.{key} is not in the manual"
            );
        }
    }
    for word in ["5200", "18502", "18503", "1280", "/var/lib/handfast/identity.key", "hf0"] {
        assert!(EXAMPLE.contains(word) && MANUAL.contains(word), "{word}");
    }
}

#[test]
fn keys_of_the_manual_exist() {
    let known: Vec<&str> = KEYS.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
    for line in MANUAL.lines() {
        if let Some(key) = line.strip_prefix(".It Cm ") {
            assert!(known.contains(&key.split(' ').next().unwrap()), "the manual explains {key}");
        }
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    assert_eq!(
        fault("[interface]\nadresses = [\"10.0.0.1/24\"]\n"),
        "t.toml:2: interface.adresses: unknown key; did you mean `addresses`? accepted here: name, addresses, mtu, table, offload, threads, dscp"
    );
    assert_eq!(
        fault(&interface("[identiy]")),
        "t.toml:3: identiy: unknown key; did you mean `identity`? accepted here: interface, identity, listen, control, discovery, nat, relay, peer, channel"
    );
    assert_eq!(
        fault(&peer("allowed_ips = []")),
        "t.toml:6: peer 1: allowed_ips: unknown key; accepted here: name, public_key, endpoints, prefixes, keepalive"
    );
    assert_eq!(
        fault(&rule("{ ports = 5 }")),
        "t.toml:5: channel \"x\": match: ports: unknown key; did you mean `port`? accepted here: protocol, port, prefix, dscp"
    );
}

#[test]
fn duplicate_keys_and_broken_toml_are_refused_with_their_line() {
    assert_eq!(fault(&interface("mtu = 1300\nmtu = 1400")), "t.toml:4: at `mtu`: duplicate key");
    assert_eq!(fault(&interface("[interface]")), "t.toml:3: at `interface`: duplicate key");
    let broken = fault(&interface("mtu = = 3"));
    assert!(broken.starts_with("t.toml:3: ") && !broken.contains('\n'), "{broken}");
    let open = fault(&interface("name = \"hf"));
    assert!(open.starts_with("t.toml:3: ") && !open.contains('\n'), "{open}");
}

#[test]
fn sections_must_have_their_right_brackets() {
    assert_eq!(
        fault("[[interface]]\n"),
        "t.toml:1: interface: may stand only once; write [interface], not [[interface]]"
    );
    assert_eq!(
        fault(&interface("[peer]\nname = \"b\"")),
        "t.toml:3: peer: there may be several of these: write [[peer]], not [peer]"
    );
    assert_eq!(
        fault(&format!("listen = 5\n{}", interface(""))),
        "t.toml:1: listen = 5: is not a section; accepted: port"
    );
    assert!(fault("").starts_with("t.toml:1: needs a section [interface] with `addresses`: own addresses"));
}

#[test]
fn interface_values_are_refused_with_what_is_accepted() {
    let cases = [
        ("mtu = 1279", "t.toml:3: interface.mtu = 1279: accepted: a whole number from 1280 to 65535"),
        ("mtu = 65536", "t.toml:3: interface.mtu = 65536: accepted: a whole number from 1280 to 65535"),
        ("mtu = \"1400\"", "t.toml:3: interface.mtu = \"1400\": accepted: a whole number from 1280 to 65535"),
        (
            "mtu = 99999999999999999999",
            "t.toml:3: interface.mtu = 99999999999999999999: accepted: a whole number from 1280 to 65535",
        ),
        ("table = 0", "t.toml:3: interface.table = 0: accepted: a whole number from 1 to 32765"),
        (
            "table = 254",
            "t.toml:3: interface.table = 254: is a table of the system; accepted: 1 to 32765 but 253, 254 and 255",
        ),
        (
            "name = \"lo\"",
            "t.toml:3: interface.name = \"lo\": is a name that Linux keeps for itself; choose another, such as \"hf0\"",
        ),
        ("[listen]\nport = 0", "t.toml:4: listen.port = 0: accepted: a whole number from 1 to 65535"),
        ("[identity]\nkey_file = \"key\"", "t.toml:4: identity.key_file = \"key\": accepted: an absolute path"),
        ("[control]\nsocket = 5", "t.toml:4: control.socket = 5: accepted: an absolute path"),
    ];
    for (line, expected) in cases {
        assert_eq!(fault(&interface(line)), expected);
    }
    for name in ["", "sixteen-bytes-xx", "a b", "a/b", "..", "-x", "hf%d", "hä0", "a:1"] {
        assert!(fault(&interface(&format!("name = \"{name}\""))).contains("1 to 15 letters, digits"), "{name}");
    }
    for mtu in [1280, 1420, 65535] {
        assert_eq!(config(&interface(&format!("mtu = {mtu}"))).interface.mtu, mtu);
    }
}

#[test]
fn a_relay_has_bounds_and_is_one_only_if_it_says_so() {
    let relay = |lines: &str| config(&interface(&format!("[relay]\n{lines}"))).relay;
    assert_eq!(relay(""), None);
    assert_eq!(relay("max_mbit = 5"), None);
    assert_eq!(relay("enabled = true"), Some(Relay { max_mbit: 100, max_members: 64 }));
    let largest = "enabled = true\nmax_mbit = 100000\nmax_members = 10000";
    assert_eq!(relay(largest), Some(Relay { max_mbit: 100_000, max_members: 10_000 }));
    let smallest = "enabled = true\nmax_mbit = 1\nmax_members = 1";
    assert_eq!(relay(smallest), Some(Relay { max_mbit: 1, max_members: 1 }));
    for (key, last) in [("max_mbit", 100_000), ("max_members", 10_000)] {
        for value in ["0".to_owned(), (last + 1).to_string(), "-1".to_owned(), "\"5\"".to_owned(), "1.5".to_owned()] {
            assert_eq!(
                fault(&interface(&format!("[relay]\n{key} = {value}"))),
                format!("t.toml:4: relay.{key} = {value}: accepted: a whole number from 1 to {last}")
            );
        }
    }
    assert_eq!(
        fault(&interface("[relay]\nenable = true")),
        "t.toml:4: relay.enable: unknown key; did you mean `enabled`? accepted here: enabled, max_mbit, max_members"
    );
}

#[test]
fn what_is_on_or_off_is_true_or_false() {
    let on = config(&interface("[discovery]\nlan = true\n[nat]\nport_mapping = true"));
    assert!(on.lan_discovery && on.port_mapping);
    let off = config(&interface("[discovery]\nlan = false\n[nat]\nport_mapping = false"));
    assert!(!off.lan_discovery && !off.port_mapping);
    for (section, key) in [("discovery", "lan"), ("nat", "port_mapping"), ("relay", "enabled")] {
        for value in ["1", "\"true\"", "[]"] {
            assert_eq!(
                fault(&interface(&format!("[{section}]\n{key} = {value}"))),
                format!("t.toml:4: {section}.{key} = {value}: accepted: true or false, without quotes")
            );
        }
    }
    assert_eq!(
        fault(&interface("[discovery]\nlann = true")),
        "t.toml:4: discovery.lann: unknown key; did you mean `lan`? accepted here: lan"
    );
    assert_eq!(fault(&interface("[nat]\nupnp = true")), "t.toml:4: nat.upnp: unknown key; accepted here: port_mapping");
}

#[test]
fn own_addresses_are_addresses() {
    let addresses = |list: &str| fault(&format!("[interface]\naddresses = {list}\n"));
    assert!(
        addresses("[]").starts_with("t.toml:2: interface.addresses = []: is empty; accepted: a list of own addresses")
    );
    assert!(addresses("\"10.0.0.1/24\"").contains("accepted: a list of own addresses"));
    assert_eq!(
        addresses("[\"10.0.0.1\"]"),
        "t.toml:2: interface.addresses = \"10.0.0.1\": needs a length; write \"10.0.0.1/32\" for the one address"
    );
    assert_eq!(
        addresses("[\n  \"10.0.0.1/24\",\n  \"10.0.1.0/24\",\n]"),
        "t.toml:4: interface.addresses = \"10.0.1.0/24\": names the network, not an address in it; write the node's own address, such as \"10.0.1.1/24\""
    );
    assert!(addresses("[\"10.0.0.1/33\"]").contains("is not an IPv4 or IPv6 address with a length"));
    assert!(addresses("[\"10.0.0.1/24\", \"10.0.0.1/16\"]").ends_with("stands twice in the list"));
    for unusable in
        ["0.0.0.0/0", "127.0.0.1/8", "224.0.0.1/24", "::1/128", "::/64", "ff02::1/64", "::ffff:10.0.0.1/128"]
    {
        assert!(
            addresses(&format!("[\"{unusable}\"]")).contains("not an address that an interface can have"),
            "{unusable}"
        );
    }
    for usable in ["10.0.0.1/32", "10.0.0.0/31", "10.0.0.1/31", "fd00::/127", "fe80::1/64", "169.254.1.1/16"] {
        config(&format!("[interface]\naddresses = [\"{usable}\"]\n"));
    }
}

#[test]
fn a_socket_path_is_short_enough_for_a_socket() {
    let socket = |path: &str| interface(&format!("[control]\nsocket = \"{path}\""));
    let longest = format!("/{}", "x".repeat(106));
    assert_eq!(config(&socket(&longest)).control_socket, PathBuf::from(&longest));
    assert!(fault(&socket(&format!("{longest}x"))).contains("at most 107 bytes"));
    assert!(fault(&socket("/")).contains("at most 107 bytes"));
    assert_eq!(config(&interface("name = \"mesh1\"")).control_socket, Path::new("/run/handfast/mesh1.sock"));
}

#[test]
fn a_peer_needs_name_key_and_prefixes() {
    assert_eq!(fault(&interface("[[peer]]")), "t.toml:3: peer 1: needs the key `name`: what you call this peer");
    assert_eq!(
        fault(&interface("[[peer]]\nname = \"b\"")),
        "t.toml:3: peer \"b\": needs the key `public_key`: the peer's key, as `handfast pubkey` prints it there"
    );
    assert_eq!(
        fault(&peer("")),
        "t.toml:3: peer \"b\": needs the key `prefixes`: prefixes such as \"10.77.0.2/32\" or \"fd77:2::/64\""
    );
    assert!(fault(&peer("prefixes = []")).contains("nothing could be sent to this peer"));
    assert!(fault(&interface("[[peer]]\nname = \"b c\"")).contains("accepted: a name of 1 to 63 letters"));
}

#[test]
fn keepalive_is_a_whole_number_of_seconds() {
    let keepalive = |value: &str| peer(&format!("prefixes = [\"10.0.0.2/32\"]\nkeepalive = {value}"));
    assert_eq!(config(&keepalive("3600")).peers[0].keepalive, Some(Duration::from_secs(3600)));
    for value in ["0", "3601", "2.5", "-1", "true"] {
        assert_eq!(
            fault(&keepalive(value)),
            format!("t.toml:7: peer \"b\": keepalive = {value}: accepted: a whole number from 1 to 3600")
        );
    }
}

#[test]
fn public_keys_are_whole_usable_and_of_one_peer_only() {
    let with = |key: &str| fault(&interface(&format!("[[peer]]\nname = \"b\"\npublic_key = \"{key}\"")));
    assert_eq!(
        with("abc"),
        "t.toml:5: peer \"b\": public_key = \"abc\": is not a public key: one has 44 characters of base64, as `handfast pubkey` prints it"
    );
    assert!(with(&"!".repeat(44)).contains("not valid base64"));
    assert!(with(&format!("{}=", "A".repeat(43))).contains("not a usable Ed25519 public key"));
    let twice = two(["[\"10.0.0.2/32\"]", "[\"10.0.0.3/32\"]"]).replace(&public(2), &public(1));
    assert_eq!(
        fault(&twice),
        format!("t.toml:9: peer \"c\": public_key = \"{}\": is also the key of peer \"b\"", public(1))
    );
}

#[test]
fn names_of_peers_and_channels_are_unique() {
    let twice = two(["[\"10.0.0.2/32\"]", "[\"10.0.0.3/32\"]"]).replace("\"c\"", "\"b\"");
    assert_eq!(fault(&twice), "t.toml:8: peer 2: name = \"b\": is the name of another peer, at line 4");
    let channels = format!("{}[[channel]]\nname = \"x\"\n", rule("{ dscp = 1 }"));
    assert_eq!(fault(&channels), "t.toml:7: channel 2: name = \"x\": is the name of another channel, at line 4");
}

#[test]
fn prefixes_have_no_host_bits() {
    assert_eq!(
        fault(&peer("prefixes = [\"10.0.0.2/24\"]")),
        "t.toml:6: peer \"b\": prefixes = \"10.0.0.2/24\": has host bits set; write \"10.0.0.0/24\" for the network or \"10.0.0.2/32\" for the one address"
    );
    assert!(
        fault(&peer("prefixes = [\"fd77::2/64\"]")).contains("write \"fd77::/64\" for the network or \"fd77::2/128\"")
    );
    assert!(fault(&peer("prefixes = [\"10.0.0.2\"]")).contains("needs a length; write \"10.0.0.2/32\""));
    assert!(fault(&peer("prefixes = [\"b.example.org/32\"]")).contains("is not an IPv4 or IPv6 address with a length"));
    assert!(fault(&peer("prefixes = [\"127.0.0.0/8\"]")).contains("cannot lie behind a peer"));
}

#[test]
fn equal_prefixes_overlap_and_longer_ones_inside_shorter_ones_do_not() {
    assert_eq!(
        fault(&two(["[\"10.0.0.0/24\"]", "[\"10.0.0.0/24\"]"])),
        "t.toml:10: peer \"c\": prefixes = \"10.0.0.0/24\": belongs to peer \"b\" already; accepted: each prefix once (a longer one inside it may be another peer's)"
    );
    assert!(fault(&peer("prefixes = [\"10.1.0.0/24\", \"10.1.0.0/24\"]")).contains("stands twice in the list"));
    let nested = config(&two(["[\"0.0.0.0/0\", \"::/0\"]", "[\"10.0.0.0/24\", \"10.0.0.3/32\"]"]));
    assert_eq!(nested.peers[1].prefixes.len(), 2);
}

#[test]
fn the_own_address_is_no_peers_but_the_network_around_it_may_be() {
    assert_eq!(
        fault(&peer("prefixes = [\"10.0.0.1/32\"]")),
        "t.toml:6: peer \"b\": prefixes = \"10.0.0.1/32\": is this node's own address; accepted: addresses and networks of the peer"
    );
    config(&peer("prefixes = [\"10.0.0.0/24\"]"));
}

#[test]
fn endpoints_are_addresses_or_names_with_a_port() {
    let with = |endpoint: &str| peer(&format!("prefixes = [\"10.0.0.2/32\"]\nendpoints = [\"{endpoint}\"]"));
    let fault = |endpoint: &str| fault(&with(endpoint));
    assert_eq!(
        fault("192.0.2.2"),
        "t.toml:7: peer \"b\": endpoints = \"192.0.2.2\": needs a port; write \"192.0.2.2:18502\""
    );
    assert!(fault("2001:db8::2").ends_with("needs a port; write \"[2001:db8::2]:18502\""));
    assert!(fault("b.example.org").ends_with("needs a port; write \"b.example.org:18502\""));
    assert!(fault("b.example.org:0").contains("needs a port from 1 to 65535"));
    assert!(fault("192.0.2.2:0").contains("has port 0"));
    for nobody in ["0.0.0.0:1", "[::]:1", "255.255.255.255:1", "224.0.0.1:1", "[ff02::1]:1"] {
        assert!(fault(nobody).contains("is not the address of one host"), "{nobody}");
    }
    for nonsense in ["10.0.0.256:1", "a b:1", "-a:1", "a..b:1", ":1", "a.1:1", "http://b:1", "[b]:1"] {
        assert!(fault(nonsense).contains("neither an address nor a host name"), "{nonsense}");
    }
    assert!(fault("[fe80::1]:18502").contains("is link-local and needs the index of its interface"));
    let endpoint = |text: &str| config(&with(text)).peers[0].endpoints[0].clone();
    assert_eq!(endpoint("[::ffff:192.0.2.2]:5"), Endpoint::Address("192.0.2.2:5".parse().unwrap()));
    assert_eq!(endpoint("B_2.example.org.:5"), Endpoint::Name { host: "B_2.example.org".to_owned(), port: 5 });
    assert_eq!(endpoint("localhost:5"), Endpoint::Name { host: "localhost".to_owned(), port: 5 });
}

#[test]
fn a_peer_has_at_most_as_many_endpoints_as_one_attempt_greets() {
    let list = |count: u8| {
        let endpoints: Vec<String> = (1..=count).map(|n| format!("\"192.0.2.{n}:1\"")).collect();
        peer(&format!("prefixes = [\"10.0.0.2/32\"]\nendpoints = [{}]", endpoints.join(", ")))
    };
    assert_eq!(config(&list(8)).peers[0].endpoints.len(), 8);
    assert!(fault(&list(9)).ends_with("\"192.0.2.9:1\": is one too many; accepted: at most 8 endpoints of a peer"));
}

#[test]
fn a_rule_matches_something_but_not_everything() {
    assert_eq!(
        fault(&rule("{}")),
        "t.toml:5: channel \"x\": match: would match every packet; name at least one of protocol, port, prefix, dscp"
    );
    assert!(fault(&interface("[[channel]]\nname = \"x\"")).contains("needs the key `match`"));
    let matches = config(&rule("{ protocol = \"TCP\", port = \"22-80\", prefix = \"fd77::/64\", dscp = \"af41\" }"))
        .channels[0]
        .matches
        .clone();
    assert_eq!((matches.protocol, matches.ports, matches.dscp), (Some(6), Some(22..=80), Some(34)));
    assert_eq!(matches.prefix, Some("fd77::/64".parse().unwrap()));
}

#[test]
fn rule_values_are_refused_with_what_is_accepted() {
    assert_eq!(
        fault(&rule("{ protocol = \"upd\" }")),
        "t.toml:5: channel \"x\": match: protocol = \"upd\": did you mean \"udp\"? accepted: tcp, udp, icmp, icmpv6, sctp, gre, esp, or a number from 0 to 255"
    );
    assert!(fault(&rule("{ protocol = 256 }")).contains("protocol = 256: accepted: tcp, udp"));
    assert!(fault(&rule("{ dscp = 64 }")).contains("or a number from 0 to 63"));
    assert!(fault(&rule("{ dscp = \"AF14\" }")).contains("did you mean \"AF"));
    for port in ["0", "65536", "-1", "\"\"", "\"5-\"", "\"0-5\"", "\"a\"", "\"1-2-3\"", "1.5", "[5]"] {
        assert!(fault(&rule(&format!("{{ port = {port} }}"))).contains("a port from 1 to 65535, or a range"), "{port}");
    }
    assert!(fault(&rule("{ port = \"9-5\" }")).ends_with("runs backwards; write \"5-9\""));
    assert!(fault(&rule("{ protocol = \"icmp\", port = 5 }")).contains("this protocol has no ports"));
    assert!(fault(&rule("{ prefix = \"10.0.0.1/8\" }")).contains("has host bits set"));
}

#[test]
fn codepoints_have_their_registered_numbers() {
    let dscp = |name: &str| config(&rule(&format!("{{ dscp = \"{name}\" }}"))).channels[0].matches.dscp.unwrap();
    for class in 0..8 {
        assert_eq!(dscp(&format!("CS{class}")), class * 8);
    }
    for class in 1..=4 {
        for drop in 1..=3 {
            assert_eq!(dscp(&format!("AF{class}{drop}")), class * 8 + drop * 2);
        }
    }
    assert_eq!([dscp("EF"), dscp("VA"), dscp("LE")], [46, 44, 1]);
}

#[test]
fn the_codepoint_outside_is_none_that_of_the_packets_or_one_for_all() {
    let dscp = |value: &str| config(&interface(&format!("dscp = {value}"))).interface.dscp;
    assert_eq!(dscp("\"none\""), OuterDscp::Fixed(0));
    assert_eq!([dscp("\"copy\""), dscp("\"Copy\"")], [OuterDscp::Copy; 2]);
    let fixed = [dscp("\"ef\""), dscp("\"CS1\""), dscp("\"af41\""), dscp("0"), dscp("63")];
    assert_eq!(fixed, [46, 8, 34, 0, 63].map(OuterDscp::Fixed));
    let accepted = "accepted: none, copy, CS0, CS1, CS2, CS3, CS4, CS5, CS6, CS7, AF11, AF12, AF13, AF21, AF22, AF23, AF31, \
                    AF32, AF33, AF41, AF42, AF43, EF, VA, LE, or a number from 0 to 63";
    for value in ["64", "-1", "true", "\"\"", "[46]"] {
        let expected = format!("t.toml:3: interface.dscp = {value}: {accepted}");
        assert_eq!(fault(&interface(&format!("dscp = {value}"))), expected);
    }
    let expected = format!("t.toml:3: interface.dscp = \"46\": write a number without quotes; {accepted}");
    assert_eq!(fault(&interface("dscp = \"46\"")), expected);
    let expected = format!("t.toml:3: interface.dscp = \"inherit\": {accepted}");
    assert_eq!(fault(&interface("dscp = \"inherit\"")), expected);
    let expected = format!("t.toml:3: interface.dscp = \"cpoy\": did you mean \"copy\"? {accepted}");
    assert_eq!(fault(&interface("dscp = \"cpoy\"")), expected);
}

#[test]
fn there_are_127_reliable_channels() {
    let rules = |count: usize| {
        let rule = |number| format!("[[channel]]\nname = \"r{number}\"\nmatch = {{ dscp = 5 }}\n");
        interface(&(0..count).map(rule).collect::<String>())
    };
    assert_eq!(config(&rules(127)).channels.len(), 127);
    assert!(fault(&rules(128)).ends_with("name = \"r127\": is one too many; accepted: at most 127 channels"));
}

#[test]
fn messages_stay_on_one_line_whatever_the_value() {
    let long =
        fault(&interface(&format!("name = \"\"\"{}\n\u{1b}[31m\"\"\"", "x".repeat(500)).replace('\u{1b}', "\\u001b")));
    assert!(!long.chars().any(char::is_control) && long.chars().count() < 250, "{long}");
}

#[test]
fn deep_nesting_is_refused_like_any_other_fault() {
    for text in ["[".repeat(100_000), "{a=".repeat(100_000), format!("{}b = 1", "a.".repeat(100_000))] {
        for line in [text.clone(), format!("x = {text}")] {
            assert!(!fault(&interface(&line)).contains('\n'));
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(text in "(\\[\\[?(interface|peer|channel)\\]\\]?\n|(name|addresses|match|prefixes) = |[\"{}=,\\[\\]./:0-9a-z\n-]){0,40}") {
        if let Err(error) = Config::parse(&text, "t.toml") {
            let message = error.to_string();
            proptest::prop_assert!(!message.contains('\n') && message.starts_with("t.toml:"), "{}", message);
        }
    }
}

// ---- the key file

struct Node {
    directory: TempDir,
    identity: IdentitySecret,
}

impl Node {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), identity: IdentitySecret::generate(&mut Rng::from_number(7)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a configuration that names `key`, with `rest` behind.
    fn config(&self, key: &str, rest: &str) -> PathBuf {
        let path = self.path("t.toml");
        let text = interface(&format!("[identity]\nkey_file = \"{}\"\n{rest}", self.path(key).display()));
        fs::write(&path, text).unwrap();
        path
    }

    /// What is said about the key file `key`.
    fn fault(&self, key: &str) -> String {
        let path = self.config(key, "");
        let message = Config::load(&path).err().unwrap().to_string();
        let place = format!("{}:4: identity.key_file = \"", path.display());
        assert!(message.starts_with(&place), "{message}");
        message
    }
}

#[test]
fn a_key_survives_being_written_and_read() {
    let node = Node::new();
    keyfile::create(&node.path("new/key"), &node.identity).unwrap();
    let text = fs::read_to_string(node.path("new/key")).unwrap();
    assert_eq!((text.len(), text.ends_with('\n')), (45, true));
    assert_eq!(fs::metadata(node.path("new/key")).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(node.path("new")).unwrap().permissions().mode() & 0o7777, 0o700);
    let (_, read) = Config::load(&node.config("new/key", "")).unwrap();
    assert_eq!(read.id(), node.identity.id());
}

#[test]
fn a_key_file_is_never_overwritten() {
    let node = Node::new();
    fs::write(node.path("key"), "precious").unwrap();
    let refused = keyfile::create(&node.path("key"), &node.identity).unwrap_err().to_string();
    assert!(refused.contains("exists already"), "{refused}");
    symlink(node.path("elsewhere"), node.path("link")).unwrap();
    keyfile::create(&node.path("link"), &node.identity).unwrap_err();
    assert_eq!(fs::read_to_string(node.path("key")).unwrap(), "precious");
    assert!(!node.path("elsewhere").exists());
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let node = Node::new();
    keyfile::create(&node.path("key"), &node.identity).unwrap();
    for mode in [0o644, 0o604, 0o620, 0o666, 0o601, 0o660] {
        fs::set_permissions(node.path("key"), Permissions::from_mode(mode)).unwrap();
        let message = node.fault("key");
        assert!(message.contains(&format!("is open to others (mode {mode:04o}); accepted: 0600 or 0400")), "{message}");
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(node.path("key"), Permissions::from_mode(mode)).unwrap();
        assert!(Config::load(&node.config("key", "")).is_ok(), "{mode:o}");
    }
}

#[test]
fn what_is_no_key_file_is_refused() {
    let node = Node::new();
    assert!(
        node.fault("missing")
            .contains(&format!("make it with `handfast keygen --out {}`", node.path("missing").display()))
    );
    fs::create_dir(node.path("directory")).unwrap();
    assert!(node.fault("directory").contains("is not a regular file"));
    nix::unistd::mkfifo(&node.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(node.fault("pipe").contains("is not a regular file"));
    let good = public(9);
    let texts = [
        String::new(),
        "\n".to_owned(),
        good.replace('=', ""),
        format!("{good}\n\n"),
        format!("{good} "),
        format!("# key\n{good}\n"),
    ];
    for text in texts {
        fs::write(node.path("text"), &text).unwrap();
        fs::set_permissions(node.path("text"), Permissions::from_mode(0o600)).unwrap();
        assert!(node.fault("text").contains("does not hold a key"), "{text:?}");
    }
}

#[test]
fn a_key_line_needs_no_newline_and_may_lie_behind_a_link() {
    let node = Node::new();
    fs::write(node.path("key"), keyfile::encode(&node.identity).trim_end()).unwrap();
    fs::set_permissions(node.path("key"), Permissions::from_mode(0o600)).unwrap();
    symlink(node.path("key"), node.path("link")).unwrap();
    let (_, read) = Config::load(&node.config("link", "")).unwrap();
    assert_eq!(read.id(), node.identity.id());
}

#[test]
fn a_node_is_not_its_own_peer() {
    let node = Node::new();
    keyfile::create(&node.path("key"), &node.identity).unwrap();
    let own = key::format_public(&node.identity.id());
    let path =
        node.config("key", &format!("[[peer]]\nname = \"me\"\npublic_key = \"{own}\"\nprefixes = [\"10.0.0.2/32\"]"));
    assert_eq!(
        Config::load(&path).err().unwrap().to_string(),
        format!(
            "{}:7: peer \"me\": public_key = \"{own}\": is this node's own key; accepted: the key of the other node",
            path.display()
        )
    );
}

#[test]
fn files_that_are_no_configuration_are_named() {
    let node = Node::new();
    let load = |path: &Path| Config::load(path).err().unwrap().to_string();
    assert!(load(&node.path("missing")).ends_with("missing: cannot be read: No such file or directory (os error 2)"));
    assert!(load(node.directory.path()).ends_with("cannot be read: not a regular file"));
    fs::write(node.path("latin1"), b"# \xe9\n").unwrap();
    assert!(load(&node.path("latin1")).ends_with("latin1: is not UTF-8 text"));
    fs::write(node.path("large"), vec![b'#'; (4 << 20) + 1]).unwrap();
    assert!(load(&node.path("large")).ends_with("is larger than 4 MiB; a configuration is not"));
}

/// Only root can give files away.
#[test]
fn a_key_file_belongs_to_root_or_to_the_one_who_runs_handfast() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let node = Node::new();
    let give = |name: &str, owner| std::os::unix::fs::chown(node.path(name), Some(owner), Some(owner)).unwrap();
    keyfile::create(&node.path("key"), &node.identity).unwrap();
    give("key", 64321);
    assert!(
        node.fault("key").contains("belongs to user 64321, not to root or to the user that runs handfast (user 0)")
    );

    // The state directory of a service with a dynamic user: root makes the key, the service reads it, and so may root.
    fs::create_dir(node.path("state")).unwrap();
    give("state", 64321);
    keyfile::create(&node.path("state/key"), &node.identity).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(fs::metadata(node.path("state/key")).unwrap().uid(), 64321);
    assert!(Config::load(&node.config("state/key", "")).is_ok());

    // A credential of systemd is root's, and its access list shows as group permission.
    keyfile::create(&node.path("credential"), &node.identity).unwrap();
    fs::set_permissions(node.path("credential"), Permissions::from_mode(0o440)).unwrap();
    assert!(Config::load(&node.config("credential", "")).is_ok());
    std::os::unix::fs::chown(node.path("credential"), None, Some(100)).unwrap();
    assert!(node.fault("credential").contains("is open to others (mode 0440)"));
}
