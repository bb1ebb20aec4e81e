//! New keys under way, from one side, from both at once, and with datagrams still in flight under the old ones.

use crate::world::{Line, World, ms, secs, seeds};

/// Both send the same at the same moments, so that both epochs come of age nearly together.
fn symmetric(seed: u64, line: Line, minutes: u64) -> World {
    let mut world = World::connected(seed, line);
    let mut epochs = [(0, world.now); 2];
    for _ in 0..minutes * 60 * 2 {
        world.send(0, 1);
        world.send(1, 0);
        world.run_for(ms(500));
        for (host, seen) in epochs.iter_mut().enumerate() {
            let (epoch, _) = world.session(host, 1 - host).expect("the session goes on");
            if epoch != seen.0 {
                *seen = (epoch, world.now);
            }
            assert!(world.now - seen.1 < secs(960), "epoch {epoch} of host {host} is too old");
        }
    }
    world
}

#[test]
fn nothing_is_lost_when_the_keys_change() {
    for seed in seeds(60) {
        let mut world = symmetric(seed, Line::rough(ms(40), 0), 5);
        world.run_for(secs(1));
        assert!(world.all_delivered_since(0), "a packet was lost on a line that loses none");
        for (host, other) in [(0, 1), (1, 0)] {
            assert_eq!(world.status(host, other).traffic.sessions, 1, "it stays one session");
            let epoch = world.session(host, other).map(|(epoch, _)| epoch);
            assert!(epoch.is_some_and(|epoch| (3..=4).contains(&epoch)), "{epoch:?} after five minutes");
        }
        let epochs = [(0, 1), (1, 0)].map(|(host, other)| world.session(host, other).map(|(epoch, _)| epoch));
        assert_eq!(epochs[0], epochs[1]);
    }
}

#[test]
fn keys_change_on_a_line_that_loses_a_fifth() {
    for seed in seeds(40) {
        let mut world = symmetric(seed, Line::rough(ms(40), 200), 5);
        // A second in which no ping is answered, of which 36 % are lost with their answers, looks like a lost path: then there is a new handshake, and that is all.
        let sessions = world.status(0, 1).traffic.sessions;
        assert!(sessions <= 10, "{sessions} sessions in five minutes");
        world.set_lines(0, 1, Line::clean(ms(40)));
        world.run_for(secs(20));
        let since = world.packets_sent();
        for _ in 0..100 {
            world.send(0, 1);
            world.send(1, 0);
            world.run_for(ms(100));
        }
        world.run_for(secs(1));
        assert!(world.all_delivered_since(since), "something is stuck");
        for (host, other) in [(0, 1), (1, 0)] {
            assert!(!world.status(host, other).connecting, "host {host} goes on greeting");
            assert!(world.status(host, other).traffic.sessions <= sessions + 1, "it stays one session on a clean line");
        }
    }
}

#[test]
fn whoever_only_receives_follows_the_other() {
    for sender in [0, 1] {
        let mut world = World::connected(5, Line::clean(ms(20)));
        for _ in 0..300 {
            world.send(sender, 1 - sender);
            world.run_for(secs(1));
        }
        assert!(world.all_delivered_since(0));
        for (host, other) in [(0, 1), (1, 0)] {
            assert_eq!(world.session(host, other).map(|(epoch, _)| epoch), Some(3), "sender {sender}, host {host}");
        }
    }
}
