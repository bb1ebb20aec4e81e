//! Packets larger than a datagram: delivered intact, which every scenario checks, or not at all.

use crate::world::{Line, World, ms, secs, seeds};

const SIZES: [usize; 14] = [1190, 1191, 1192, 1193, 1280, 1420, 1500, 2366, 2367, 4000, 9000, 20_000, 65_000, 65_535];

#[test]
fn every_size_arrives_on_a_line_that_reorders_and_repeats() {
    for seed in seeds(5) {
        let mut world = World::connected(seed, Line { duplicates: 100, ..Line::rough(ms(20), 0) });
        for size in SIZES {
            for _ in 0..4 {
                world.send_sized(0, 1, 0, size);
                world.send_sized(1, 0, 0, size);
                world.run_for(ms(50));
            }
        }
        world.run_for(secs(1));
        assert!(world.all_delivered_since(0));
    }
}

#[test]
fn every_size_arrives_on_a_reliable_channel() {
    for seed in seeds(3) {
        let mut world = World::connected(seed, Line::rough(ms(20), 50));
        for size in SIZES {
            world.send_sized(0, 1, 1, size);
            world.send_sized(1, 0, 2, size);
            world.run_for(ms(500));
        }
        let everything = |world: &World| world.all_delivered_since(0);
        assert!(world.run_until(secs(60), everything).is_some());
    }
}

#[test]
fn a_lost_part_loses_its_packet_alone() {
    for seed in seeds(5) {
        let mut world = World::connected(seed, Line::rough(ms(20), 20));
        for _ in 0..200 {
            world.send_sized(0, 1, 0, 9000);
            world.run_for(ms(20));
        }
        world.run_for(secs(5));
        let delivered = (0..200).filter(|&id| world.is_delivered(id)).count();
        // Eight parts each: 0.98^8 = 85 % come through.
        assert!((140..195).contains(&delivered), "{delivered} of 200");
    }
}

#[test]
fn all_the_mixtures_at_once_leave_nothing_behind() {
    for seed in seeds(3) {
        let mut world = World::connected(seed, Line::rough(ms(30), 100));
        world.send(0, 1);
        world.send(1, 0);
        world.run_for(secs(3));
        let empty = world.size(1);
        for number in 0..300 {
            let size = 60 + world.rng.below(65_000) as usize;
            world.send_sized(0, 1, 0, size);
            world.run_for(ms(10));
            // A byte is printed as up to five characters.
            let bounded = number % 20 != 0 || world.size(1) < empty + 256 * 1024 * 5;
            assert!(bounded, "more than 256 KiB wait for parts that are lost");
        }
        world.run_for(secs(3));
        assert!(world.size(1) < empty + 20_000, "{} bytes of state, {empty} before", world.size(1));
    }
}
