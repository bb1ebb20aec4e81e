//! How fast: on a clean path, and beside another flow.

use super::*;

impl World {
    /// Keeps `from` busy on channel 1 for `duration`; returns the bytes that came out meanwhile at the other end.
    fn saturate(&mut self, from: &[usize], duration: Duration) -> Vec<usize> {
        let until = self.now + duration;
        let packet = record(1, 1400);
        for end in &mut self.delivered {
            end.clear();
        }
        loop {
            for end in from {
                while self.ends[*end].kept < 1400 << 10 && self.ends[*end].send(self.now, 1, &packet).is_ok() {}
                self.flush(*end);
            }
            if !self.step(until) {
                break;
            }
        }
        self.now = until;
        from.iter().map(|end| self.delivered[end ^ 1].len() * packet.len()).collect()
    }
}

#[test]
fn a_clean_path_is_filled_up_to_the_window() {
    let mut world = World::clean(ms(10));
    world.saturate(&[0], ms(1000));
    let bytes = world.saturate(&[0], ms(1000))[0];
    // 840 messages of full length are what the receiver's room is worth.
    let full = 840 * MAX_MESSAGE * 50;
    assert!(bytes * 10 >= full * 9, "{bytes} of {full} bytes a second");
    assert!(world.faults.is_empty(), "nothing was lost, nothing came twice: {:?}", &world.faults[..5]);
}

#[test]
fn a_bottleneck_is_used_to_the_full() {
    // 1000 packets a second, 40 ms of round trip, and a queue as deep.
    let mut world = World::new(0, 1, [Road::bottleneck(ms(20), ms(1), 40), Road::clean(ms(20))]);
    world.saturate(&[0], ms(5000));
    let bytes = world.saturate(&[0], ms(20_000))[0];
    let full = 20_000 * MAX_MESSAGE;
    assert!(bytes * 100 >= full * 85, "{bytes} of {full}");
}

#[test]
fn two_flows_share_a_bottleneck() {
    for (delay, queue) in [(20, 40), (5, 20), (50, 100)] {
        let mut world = World::new(0, 2, [Road::bottleneck(ms(delay), ms(1), queue), Road::clean(ms(delay))]);
        // The second comes when the first has it all.
        world.saturate(&[0], ms(5000));
        world.saturate(&[0, 2], ms(20_000));
        let shares = world.saturate(&[0, 2], ms(60_000));
        let (less, more) = (shares[0].min(shares[1]), shares[0].max(shares[1]));
        assert!(more <= less * 2, "{shares:?} at {delay} ms");
        assert!((less + more) * 100 >= 60_000 * MAX_MESSAGE * 80, "{shares:?} at {delay} ms");
    }
}

#[test]
fn random_loss_slows_down_and_does_not_stop() {
    for (loss, least) in [(1, 300_000), (10, 40_000), (30, 4_000)] {
        let road = || Road { loss, ..Road::clean(ms(10)) };
        let mut world = World::new(5, 1, [road(), road()]);
        let bytes = world.saturate(&[0], ms(20_000))[0] / 20;
        assert!(bytes >= least, "{bytes} bytes a second at {loss} % loss");
    }
}

#[test]
fn several_channels_share_one_window() {
    let mut world = World::clean(ms(50));
    for id in 1..=20 {
        world.ends[0].send(world.now, id, &record(0, 5000)).unwrap();
    }
    world.flush(0);
    assert_eq!(world.ends[0].recovery.under_way(), 10);
}
