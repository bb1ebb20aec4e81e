//! The same seed is the same run, byte for byte.

use crate::world::{Line, World, ms, secs};

/// Half a minute of a rough life: loss, repetition, reordering, roaming, a restart, reliable and unreliable traffic.
fn life(seed: u64) -> ([u8; 32], u64) {
    let mut world = World::new(seed, 3, Line::rough(ms(15), 50));
    world.repeats_allowed = true;
    for host in 0..3 {
        world.start(host);
    }
    for second in 0..30 {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            world.send(from, to);
            world.send_sized(from, to, 1, 600);
            world.send_sized(from, to, 0, 4000);
        }
        if second == 10 {
            world.roam(1, crate::world::address(40));
        }
        if second == 20 {
            world.restart(2);
        }
        world.run_for(secs(1));
    }
    let datagrams = world.sent.iter().map(|sent| sent.0).sum();
    (world.digest(), datagrams)
}

#[test]
fn the_same_seed_gives_the_same_datagrams_at_the_same_times() {
    let (first, datagrams) = life(1);
    assert!(datagrams > 500, "{datagrams} datagrams are no test");
    assert_eq!(first, life(1).0);
}

#[test]
fn another_seed_gives_other_datagrams() {
    assert_ne!(life(1).0, life(2).0);
}
