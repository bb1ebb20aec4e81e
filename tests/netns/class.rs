//! Codepoints and congestion marks: what the underlay sees of the packets inside, and what they hear of the underlay (PROTOCOL §11.6).

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use crate::support::lab::{Family, Lab, Setup};
use crate::support::node::Node;
use crate::support::{eventually, seconds};

const PORT: u16 = 7000;
/// Expedited forwarding, as it stands in a header.
const EF: u8 = 46 << 2;
const ECT0: u8 = 0b10;
const CE: u8 = 0b11;

/// A router on the way to this host is congested, and marks what can bear it.
const CONGESTION: &str = "
table inet congestion {
  chain in {
    type filter hook prerouting priority -300
    udp dport 18502 ip ecn != not-ect ip ecn set ce
    udp dport 18502 ip6 ecn != not-ect ip6 ecn set ce
  }
}";
/// Another one does not look at what it marks.
const NONSENSE: &str = "
table inet nonsense {
  chain in {
    type filter hook prerouting priority -200
    udp dport 18502 ip ecn set ce
    udp dport 18502 ip6 ecn set ce
  }
}";

/// Two nodes, each with its own `interface.dscp`.
fn lab(family: Family, dscp: [&str; 2]) -> Option<Lab> {
    let lab = (Setup { family, mtu: 4000, ..Setup::default() }).build()?;
    for (node, line) in lab.nodes.iter().zip(dscp) {
        node.change_configuration(|text| text.replace("[identity]", &format!("{line}\n[identity]")));
    }
    Some(lab)
}

/// What `from` sends has this class.
fn sender(from: &Node, own: IpAddr, class: u8) -> UdpSocket {
    let socket = from.host.udp(SocketAddr::new(own, 0));
    if own.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4Tos, &class.into()).unwrap();
    } else {
        setsockopt(&socket, sockopt::Ipv6TClass, &class.into()).unwrap();
    }
    socket
}

fn receiver(to: &Node, own: IpAddr) -> UdpSocket {
    let socket = to.host.udp(SocketAddr::new(own, PORT));
    if own.is_ipv4() {
        setsockopt(&socket, sockopt::IpRecvTos, &true).unwrap();
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvTClass, &true).unwrap();
    }
    socket.set_read_timeout(Some(seconds(10))).unwrap();
    socket
}

/// Length and class of the next datagram.
#[expect(clippy::wildcard_enum_match_arm, reason = "other messages say nothing of the class")]
fn receive(socket: &UdpSocket) -> (usize, u8) {
    let (mut bytes, mut room) = ([0; 5000], nix::cmsg_space!(libc::c_int));
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut room), MsgFlags::empty()).unwrap();
    let class = received.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::Ipv4Tos(class) => Some(class),
        ControlMessageOwned::Ipv6TClass(class) => Some(class as u8),
        _ => None,
    });
    (received.bytes, class.unwrap())
}

/// How many datagrams of `from` are of this class, and of how many.
fn count(datagrams: &[crate::support::capture::Datagram], from: SocketAddr, class: u8) -> (usize, usize) {
    let own: Vec<_> = datagrams.iter().filter(|datagram| datagram.from == from).collect();
    (own.iter().filter(|datagram| datagram.class == class).count(), own.len())
}

#[test]
fn the_codepoint_inside_shows_outside_on_request_alone() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = lab(family, ["dscp = \"copy\"", ""]) else { return };
        let (a, b) = lab.pair();
        let capture = lab.capture();
        a.start();
        b.start();
        let options = format!("-c 20 -i 0.05 -W 5 -Q {EF}");
        a.ping_with(b.v4(), &options).assert_all_answered();
        a.ping_with(b.v6(), &options).assert_all_answered();
        // Parts.
        let (socket, far) = (sender(a, a.v4(), EF | ECT0), receiver(b, b.v4()));
        socket.send_to(&[7; 3500], (b.v4(), PORT)).unwrap();
        assert_eq!(receive(&far), (3500, EF | ECT0), "the inner header keeps its own");

        let datagrams = capture.datagrams();
        let (ef, all) = count(&datagrams, lab.endpoint(a), EF);
        let (ef_capable, _) = count(&datagrams, lab.endpoint(a), EF | ECT0);
        // Those that waited for a session share datagrams.
        assert!((20..=40).contains(&ef) && ef_capable >= 2, "{ef} and {ef_capable} of {all}");
        // Hellos, and what keeps a session going.
        assert_eq!(count(&datagrams, lab.endpoint(a), 0).0, all - ef - ef_capable);
        // Its replies to ping are EF inside.
        let (plain, all) = count(&datagrams, lab.endpoint(b), 0);
        assert!(plain == all && all >= 20, "{plain} of {all}");
    }
}

#[test]
fn one_codepoint_for_all_is_on_every_datagram() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = lab(family, ["dscp = \"cs1\"", "dscp = 46"]) else { return };
        let (a, b) = lab.pair();
        let capture = lab.capture();
        a.start();
        b.start();
        for address in [b.v4(), b.v6()] {
            a.ping_with(address, "-c 5 -i 0.05 -W 5 -Q 64").assert_all_answered();
        }
        let datagrams = capture.datagrams();
        for (node, class) in [(a, 8 << 2), (b, EF)] {
            let (own, all) = count(&datagrams, lab.endpoint(node), class);
            assert!(own == all && all >= 5, "{own} of {all}");
        }
    }
}

#[test]
fn congestion_on_the_road_is_told_to_the_receiver_inside() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = lab(family, ["", ""]) else { return };
        let (a, b) = lab.pair();
        b.host.rules(CONGESTION);
        a.start();
        b.start();
        a.ping(b.v4()).assert_all_answered();
        for (own, to) in [(a.v4(), b.v4()), (a.v6(), b.v6())] {
            let far = receiver(b, to);
            // Alone, together with others, and in parts.
            for len in [1000, 100, 3500] {
                for (class, expected) in [(ECT0, CE), (EF | ECT0, EF | CE), (0, 0), (EF, EF)] {
                    let near = sender(a, own, class);
                    near.send_to(&vec![7; len], (to, PORT)).unwrap();
                    assert_eq!(receive(&far), (len, expected), "{class:02x} to {to}");
                }
            }
        }
        b.host.rules(NONSENSE);
        for (len, drops) in [(1000, 1), (3500, 2)] {
            sender(a, a.v4(), 0).send_to(&vec![7; len], (b.v4(), PORT)).unwrap();
            eventually(seconds(5), "what cannot bear the mark is dropped", || b.status().drops("congestion") >= drops);
        }
    }
}
