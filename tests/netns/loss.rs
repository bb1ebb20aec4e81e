//! Five per cent of the datagrams are lost, each way.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::support::lab::{Lab, Setup};
use crate::support::node::Node;
use crate::support::{eventually, seconds};

const SYSLOG: u16 = 514;
const MESSAGES: u32 = 3000;
const FLOWS: usize = 64;

fn lossy() -> Option<Lab> {
    let lab = (Setup { reliable_port: Some(SYSLOG), ..Setup::default() }).build()?;
    lab.lose_five_percent_each_way();
    for node in &lab.nodes {
        node.start();
    }
    Some(lab)
}

/// Sends numbered messages from one node to the other, in turn from so many ports, faster than a congested path takes them; gives the numbers that arrive, in
/// their order.
fn send_numbered(from: &Node, to: &Node, ports: usize) -> Vec<u32> {
    let receiver = to.host.udp(SocketAddr::new(to.v4(), SYSLOG));
    socket2::SockRef::from(&receiver).set_recv_buffer_size(8 << 20).unwrap();
    receiver.set_read_timeout(Some(seconds(10))).unwrap();
    let senders: Vec<_> = (0..ports).map(|_| from.host.udp(SocketAddr::new(from.v4(), 0))).collect();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut buffer = [0; 2000];
            let mut numbers = Vec::new();
            while numbers.len() < MESSAGES as usize
                && let Ok(length) = receiver.recv(&mut buffer)
            {
                assert_eq!(length, 200 + (numbers.len() * 37) % 700, "message {}", numbers.len());
                numbers.push(u32::from_be_bytes(buffer[..4].try_into().unwrap()));
            }
            numbers
        });
        for number in 0..MESSAGES {
            let mut message = vec![b'.'; 200 + (number as usize * 37) % 700];
            message[..4].copy_from_slice(&number.to_be_bytes());
            senders[number as usize % ports].send_to(&message, (to.v4(), SYSLOG)).unwrap();
            if number % 10 == 9 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        receiving.join().unwrap()
    })
}

#[test]
fn a_reliable_flow_arrives_whole_and_in_order() {
    let Some(lab) = lossy() else { return };
    let (a, b) = lab.pair();
    // Only 64 packets wait for a session (PROTOCOL §13).
    eventually(seconds(20), "there is a session", || a.status().peer("b").state() == "connected");
    let numbers = send_numbered(a, b, 1);
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
    assert!(a.status().peer("b").retransmissions() > 0, "nothing was lost, so nothing was shown");
}

/// One rule has one order, whatever flows it is made of.
#[test]
fn flows_of_one_rule_arrive_in_the_order_in_which_they_were_sent() {
    let Some(lab) = lossy() else { return };
    let (a, b) = lab.pair();
    eventually(seconds(20), "there is a session", || a.status().peer("b").state() == "connected");
    let numbers = send_numbered(a, b, FLOWS);
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
    assert!(a.status().peer("b").retransmissions() > 0, "nothing was lost, so nothing was shown");
}

#[test]
fn the_handshake_and_datagrams_live_with_loss() {
    let Some(lab) = lossy() else { return };
    let (a, b) = lab.pair();
    let ping = a.ping_with(b.v4(), "-c 200 -i 0.02 -W 5");
    // Each way through, with 0.95 chance twice: 180 are expected.
    assert!((150..200).contains(&ping.received), "{}", ping.text);
    assert!(a.tcp_throughput(b, seconds(3)) > 1e5);
}
