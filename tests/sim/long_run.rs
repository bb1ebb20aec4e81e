//! A day of a mesh: bursts, one-way flows, idle hours, loss, address changes, rekeys; and never a link that is stuck.

use std::time::Duration;

use crate::world::{HostId, Line, PacketId, World, address, ms, secs, seeds};

/// While the line is up, a sender that tries four times a second is through within this.
const STUCK: Duration = secs(12);
/// The same if the other side has moved in silence: its name is looked up when nothing has answered for 15 s.
const STUCK_MOVED: Duration = secs(35);

/// What a node may hold, printed, beyond what it held when it was young and idle.
const GROWTH: usize = 30_000;

struct Day {
    world: World,
    /// Epoch of each host, and since when.
    epochs: [Option<(u64, u64, Duration)>; 2],
    slowest: Duration,
    moves: u16,
}

impl Day {
    /// Lets time pass and looks at the age of the keys every second.
    fn pass(&mut self, duration: Duration) {
        let end = self.world.now + duration;
        while self.world.now < end {
            self.world.run_for(secs(1).min(end - self.world.now));
            let now = self.world.elapsed();
            for host in [0, 1] {
                let status = self.world.status(host, 1 - host);
                let epoch = status.session.map(|session| (status.traffic.sessions, session.epoch));
                let since = self.epochs[host].filter(|&(session, number, _)| Some((session, number)) == epoch);
                let since = since.map_or(now, |(_, _, since)| since);
                self.epochs[host] = epoch.map(|(session, number)| (session, number, since));
                assert!(now - since < secs(960), "keys of host {host} are {:?} old", now - since);
            }
        }
    }

    /// Tries until one packet is through.
    fn get_through(&mut self, from: HostId, limit: Duration) {
        let begun = self.world.now;
        let since = self.world.packets_sent();
        while !(since..self.world.packets_sent()).any(|id| self.world.is_delivered(id)) {
            let waited = self.world.now - begun;
            assert!(waited < limit, "host {from} is stuck for {waited:?}");
            self.world.send(from, 1 - from);
            self.pass(ms(250));
        }
        self.slowest = self.slowest.max(self.world.now - begun);
    }

    fn burst(&mut self, from: HostId) {
        let count = 1 + self.world.rng.below(200);
        for _ in 0..count {
            let size = 60 + self.world.rng.below(3000) as usize;
            self.world.send_sized(from, 1 - from, 0, size);
            if self.world.chance(300) {
                let pause = ms(u64::from(self.world.rng.below(30)));
                self.world.run_for(pause);
            }
        }
    }

    fn one_way(&mut self, from: HostId, reliable: bool) {
        let seconds = 30 + self.world.rng.below(400);
        for _ in 0..seconds {
            self.world.send_sized(from, 1 - from, u8::from(reliable), 300);
            self.pass(secs(1));
        }
    }

    fn conversation(&mut self) {
        for _ in 0..60 + self.world.rng.below(200) {
            self.world.send(0, 1);
            self.world.send(1, 0);
            self.pass(ms(700));
        }
    }

    fn roam(&mut self, host: HostId) {
        self.moves += 1;
        let new = address(1000 + self.moves);
        self.world.roam(host, new);
    }

    fn next(&mut self) {
        let host = self.world.rng.below(2) as usize;
        match self.world.rng.below(10) {
            0 | 1 => self.burst(host),
            2 => self.one_way(host, false),
            3 => self.one_way(host, true),
            4 | 5 => self.conversation(),
            6 | 7 => {
                let idle = secs(u64::from(self.world.rng.below(1500)));
                self.pass(idle);
            }
            8 => {
                // It moves and goes on sending.
                self.roam(host);
                self.get_through(host, STUCK);
            }
            _ => {
                // It moves in silence, and the other has something to say.
                self.roam(host);
                self.get_through(1 - host, STUCK_MOVED);
            }
        }
        self.get_through(host, STUCK_MOVED);
        self.get_through(1 - host, STUCK);
    }
}

/// Simulates `hours` with one seed and returns the day.
fn live(seed: u64, hours: u64) -> Day {
    let mut world = World::connected(seed, Line::rough(ms(25), 50));
    world.repeats_allowed = true;
    for host in 0..2 {
        world.hosts[host].names = true;
    }
    let mut day = Day { world, epochs: [None; 2], slowest: Duration::ZERO, moves: 0 };
    day.pass(secs(400));
    let young = [0, 1].map(|host| day.world.size(host));
    while day.world.elapsed() < secs(hours * 3600) {
        day.next();
    }
    day.pass(secs(600));
    for (host, young) in young.into_iter().enumerate() {
        let old = day.world.size(host);
        assert!(old < young + GROWTH, "host {host} holds {old} bytes, {young} when it was young");
        assert!(day.world.status(host, 1 - host).session.is_none(), "an idle session ends");
    }
    day
}

#[test]
fn a_day_without_a_stuck_link() {
    for seed in seeds(4) {
        let day = live(seed, 24);
        let received: [usize; 2] = [0, 1].map(|host| day.world.hosts[host].received.len());
        assert!(received.iter().all(|&packets| packets > 1000), "{received:?} packets are no day");
        let reliable: Vec<PacketId> = day.world.lost_reliable();
        assert!(reliable.is_empty(), "{reliable:?} of the reliable packets never came");
        println!("{received:?} packets, {} moves, slowest {:?}", day.moves, day.slowest);
        assert!(day.moves > 20);
    }
}

#[test]
fn two_hours_with_many_seeds() {
    for seed in seeds(25) {
        live(seed + 100, 2);
    }
}
