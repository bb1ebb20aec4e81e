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
            assert!(world.hosts[host].events.iter().any(|(at, event)| {
                // 180 s after the epoch was made, and there was at most one rekey.
                matches!(event, Event::Disconnected { reason: Ended::Expired, .. }) && *at < secs(330)
            }));
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
fn one_way_traffic_is_answered_by_a_keepalive_every_ten_seconds_and_no_more() {
    let mut world = World::connected(1, Line::clean(ms(10)));
    // The search for the size of the path comes first.
    world.send(0, 1);
    world.run_for(secs(12));
    let before = world.sent[1].0;
    for _ in 0..60 {
        world.send(0, 1);
        world.run_for(secs(1));
    }
    let answers = world.sent[1].0 - before;
    assert!((5..=7).contains(&answers), "{answers} datagrams in a minute");
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
