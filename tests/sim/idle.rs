//! Who has nothing to say is silent.

use handfast::proto::Event;
use handfast::proto::event::Ended;

use crate::world::{Line, World, ms, secs, seeds};

#[test]
fn an_idle_session_ends_and_costs_nothing_afterwards() {
    for seed in seeds(20) {
        let mut world = World::connected(seed, Line::rough(ms(20), 20));
        for _ in 0..10 {
            world.send(0, 1);
            world.send(1, 0);
            world.run_for(secs(1));
        }
        world.run_for(secs(30));
        let quiet = world.sent.clone();
        world.run_for(secs(400));
        for (host, other) in [(0, 1), (1, 0)] {
            assert_eq!(world.session(host, other), None, "host {host}");
            let mut ends = world.hosts[host].events.iter().filter_map(|&(at, event)| match event {
                Event::Disconnected { reason, .. } => Some((at, reason)),
                Event::Resolve { .. }
                | Event::Connected { .. }
                | Event::Moved { .. }
                | Event::Pong { .. }
                | Event::Announce { .. }
                | Event::OpenSockets { .. }
                | Event::CloseSockets { .. }
                | Event::Unreachable { .. } => None,
            });
            let (at, reason) = ends.next().expect("it ended");
            // 180 s after the last user data, which came 12 s after the start, but not within 150 s of the last packet: there may have been one rekey, 120 s after the session began, on a line that loses.
            let in_time = at > secs(12 + 180 - 2) && at < secs(2 + 120 + 150 + 8);
            assert!(in_time, "host {host} ended the session at {at:?}: {reason:?}");
            // Both may say goodbye at once.
            assert!(matches!(reason, Ended::Idle | Ended::ClosedByPeer), "host {host}: {reason:?}");
        }
        let after = world.sent.clone();
        let during = (after[0].0 - quiet[0].0, after[1].0 - quiet[1].0);
        assert!(during.0 + during.1 <= 12, "{during:?} datagrams of a session that nobody uses");
        world.run_for(secs(24 * 3600));
        assert_eq!(world.sent, after, "a day without a session costs not one datagram");
        // The next packet makes a new session.
        world.set_lines(0, 1, Line::clean(ms(20)));
        let packet = world.send(0, 1);
        assert!(world.run_until(secs(30), |world| world.is_delivered(packet)).is_some());
    }
}

#[test]
fn one_way_traffic_costs_one_question_and_one_answer_for_each_packet_and_no_more() {
    let mut world = World::connected(1, Line::clean(ms(10)));
    // The search for the size of the path comes first.
    world.send(0, 1);
    world.run_for(secs(12));
    let before = world.sent.clone();
    for _ in 0..60 {
        world.send(0, 1);
        world.run_for(secs(1));
    }
    // What is not answered for 300 ms makes the sender ask whether the path works; the answer is the sign of life that a keepalive would be.
    let sent = [0, 1].map(|host| world.sent[host].0 - before[host].0);
    assert!((55..=65).contains(&sent[1]), "{sent:?} datagrams in a minute");
    assert!((115..=130).contains(&sent[0]), "{sent:?} datagrams in a minute");
}

#[test]
fn a_configured_keepalive_holds_the_session_for_ever() {
    let mut world = World::new(1, 2, Line::clean(ms(10)));
    world.forget_endpoint(1, 0);
    if let Some(known) = world.hosts[0].known.get_mut(&1) {
        known.keepalive = Some(secs(25));
    }
    world.start(1);
    world.start(0);
    world.run_for(secs(600));
    let before = world.sent.clone();
    world.run_for(secs(3600));
    let sent = [0, 1].map(|host| world.sent[host].0 - before[host].0);
    assert!(sent[0] >= 144 && sent[0] <= 144 + 30 * 8, "{sent:?} datagrams in an hour");
    // The path is open at any time: the side that knows no address gets through at once.
    let packet = world.send(1, 0);
    assert!(world.run_until(ms(20), |world| world.is_delivered(packet)).is_some());
    let sessions = world.status(0, 1).traffic.sessions;
    assert_eq!(sessions, 1, "one session for all that time");
}

#[test]
fn nobody_who_is_not_there_is_greeted_for_ever() {
    let mut world = World::new(1, 2, Line::clean(ms(10)));
    world.start(0);
    world.run_for(secs(100));
    let hellos = world.sent[0].0;
    assert!((16..=24).contains(&hellos), "{hellos} hellos in the 90 s of an attempt");
    assert!(world.hosts[0].events.iter().any(|(_, event)| matches!(event, Event::Unreachable { .. })));
    world.run_for(secs(3600));
    assert_eq!(world.sent[0].0, hellos);
    // A packet makes the next attempt.
    world.send(0, 1);
    assert_eq!(world.sent[0].0, hellos + 1);
}
