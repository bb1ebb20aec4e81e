//! Whatever strangers send changes nothing.
//!
//! Two worlds begin alike; into one of them noise is thrown. Not one datagram between the two nodes may differ, nor what comes out of their tunnels, nor when.

use std::net::SocketAddr;

use handfast::base::{Rng, TrafficClass};
use handfast::proto::Dropped;

use crate::world::{Datagram, Line, World, address, ms, secs, seeds};

/// Datagrams in the ordinary run; `SIM_NOISE` sets another number.
const NOISE: u32 = 1_000_000;

fn noise_count() -> u32 {
    std::env::var("SIM_NOISE").ok().and_then(|count| count.parse().ok()).unwrap_or(NOISE)
}

/// Makes datagrams that no node has sent: out of nothing, and out of real ones.
struct Forger {
    rng: Rng,
    real: Vec<Datagram>,
}

impl Forger {
    fn below(&mut self, end: usize) -> usize {
        self.rng.below(end as u32) as usize
    }

    fn random(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes);
        bytes
    }

    fn anyone(&mut self) -> SocketAddr {
        address(1000 + self.rng.below(2000) as u16)
    }

    /// One datagram of noise towards `to`.
    fn forge(&mut self, to: SocketAddr) -> Datagram {
        let place = self.below(self.real.len());
        let Datagram { mut from, mut bytes, .. } = self.real[place].clone();
        match self.below(10) {
            0 => {
                let len = self.below(1400);
                bytes = self.random(len);
            }
            1 => {
                // Right in everything that can be seen.
                let (kind, len) =
                    [(0x01, 162), (0x81, 162), (0x83, 34), (0x02, 34), (0x82, 34), (0x03, 60), (0x10, 100)]
                        [self.below(7)];
                bytes = self.random(len);
                bytes[..2].copy_from_slice(&[1, kind]);
            }
            2..=4 => {
                for _ in 0..=self.below(3) {
                    let bit = self.below(bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                if bytes == self.real[place].bytes {
                    bytes[0] ^= 0x80;
                }
            }
            5 => bytes.truncate(self.below(self.real[place].bytes.len())),
            6 => {
                let len = 1 + self.below(40);
                let tail = self.random(len);
                bytes.extend(tail);
            }
            7 => {
                bytes[1] = self.rng.below(256) as u8;
                if bytes == self.real[place].bytes {
                    bytes[1] ^= 0x40;
                }
            }
            8 => {
                let other = self.below(self.real.len());
                let tail = self.real[other].bytes.get(14..).unwrap_or_default().to_vec();
                bytes.truncate(14);
                bytes.extend(tail);
                if self.real.iter().any(|real| real.bytes == bytes) {
                    bytes.push(0);
                }
            }
            // A replay. A hello is replayed from elsewhere only: where it came from, its cookie is still good for a half-open session more.
            _ if bytes[1] == 0x01 => from = self.anyone(),
            _ => {}
        }
        if self.below(3) == 0 {
            from = self.anyone();
        }
        Datagram { from, to, class: TrafficClass::default(), bytes }
    }
}

/// Why most noise is dropped; each of these must occur, or the noise is not what it should be.
const REASONS: [Dropped; 7] = [
    Dropped::Malformed,
    Dropped::BadMac,
    Dropped::Unexpected,
    Dropped::UnknownPeer,
    Dropped::UnknownSession,
    Dropped::Replayed,
    Dropped::Forged,
];

/// What two nodes did.
#[derive(Debug, PartialEq)]
struct Course {
    datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    received: [Vec<(std::time::Duration, u64)>; 2],
    state: [String; 2],
}

/// A session with traffic across a rekey, and `noise` forged datagrams spread over it.
fn course(seed: u64, noise: u32) -> Course {
    // A line without chance, so that answers to noise do not change the fate of what follows.
    let mut world = World::new(seed, 2, Line::clean(ms(10)));
    world.tap = Some(Vec::new());
    for host in &mut world.hosts {
        // Nothing is lost for its size: what the forger repeats must have arrived before.
        host.max_datagram = 1472;
    }
    world.start(0);
    world.start(1);
    world.run_for(secs(15));
    world.send_sized(0, 1, 0, 3000);
    world.send_sized(1, 0, 1, 3000);
    world.run_for(secs(1));
    let real = world.tap.replace(Vec::new()).unwrap_or_default();
    let mut forger = Forger { rng: Rng::from_number(seed + 1), real };
    let mut datagrams = Vec::new();
    let ticks = 1400;
    for tick in 0..ticks {
        world.send(0, 1);
        if tick % 3 == 0 {
            world.send_sized(1, 0, 1, 400);
        }
        let before = [0, 1].map(|host| world.state(host));
        for number in 0..noise.div_ceil(ticks) {
            let to = world.hosts[(number % 2) as usize].address;
            let datagram = forger.forge(to);
            let _ = world.inject(datagram);
        }
        assert_eq!([0, 1].map(|host| world.state(host)), before, "noise has changed what can be seen");
        world.run_for(ms(100));
        let new = world.tap.replace(Vec::new()).unwrap_or_default();
        // Answers to first hellos are for whoever sent them.
        let new: Vec<_> = new.into_iter().filter(|datagram| datagram.bytes[1] != 0x83).collect();
        if tick % 20 == 0 {
            // What has arrived by now is as good to replay and to mutate as the handshake.
            forger.real.extend(new.first().cloned());
        }
        datagrams.extend(new.into_iter().map(|datagram| (datagram.from, datagram.to, datagram.bytes)));
    }
    world.run_for(secs(1));
    assert!(world.all_delivered_since(0), "the session did not survive");
    assert_eq!(world.session(0, 1).map(|(epoch, _)| epoch), Some(2), "across a rekey");
    for reason in REASONS {
        let drops = world.drops(0, reason) + world.drops(1, reason);
        assert!(
            drops >= u64::from(noise / 200),
            "{noise} datagrams of noise, and {drops} were dropped as {}",
            reason.label()
        );
    }
    let received = [0, 1].map(|host| world.hosts[host].received.clone());
    Course { datagrams, received, state: [0, 1].map(|host| world.state(host)) }
}

#[test]
fn a_million_forged_datagrams_change_nothing() {
    for seed in seeds(1) {
        let (quiet, noisy) = (course(seed, 0), course(seed, noise_count()));
        assert!(quiet == noisy, "noise has changed what the nodes did");
    }
}

#[test]
fn a_handshake_comes_about_in_the_midst_of_noise() {
    for seed in seeds(20) {
        // What a handshake with the same keys looks like.
        let mut world = World::connected(seed, Line::clean(ms(10)));
        world.tap = Some(Vec::new());
        world.restart(0);
        world.run_for(secs(1));
        let real = world.tap.take().unwrap_or_default();
        let mut forger = Forger { rng: Rng::from_number(seed + 1), real };

        let mut world = World::new(seed, 2, Line::clean(ms(10)));
        world.start(0);
        world.start(1);
        for _ in 0..100 {
            for host in [0, 1] {
                let to = world.hosts[host].address;
                let datagram = forger.forge(to);
                let _ = world.inject(datagram);
            }
            world.run_for(ms(2));
        }
        for (host, other) in [(0, 1), (1, 0)] {
            assert!(world.session(host, other).is_some(), "host {host} is not connected");
        }
    }
}

#[test]
fn a_flood_of_hellos_neither_ends_a_session_nor_grows_the_node() {
    let mut world = World::connected(1, Line::clean(ms(10)));
    world.tap = Some(Vec::new());
    world.restart(0);
    world.run_for(secs(1));
    let hello = world.tap.take().unwrap_or_default().into_iter().find(|datagram| datagram.bytes[1] == 1).unwrap();
    let (size, state) = (world.size(1), world.state(1));
    for number in 0..50_000u32 {
        // A first hello of a true peer, replayed from everywhere.
        let from = address(1000 + (number % 20_000) as u16);
        let _ = world.inject(Datagram { from, ..hello.clone() });
    }
    assert_eq!(world.state(1), state);
    // Only the buckets differ, and their number is fixed.
    assert!(world.size(1) < size + 100_000, "{} bytes of state, {size} before", world.size(1));
    let packet = world.send(0, 1);
    assert_eq!(world.run_until(secs(1), |world| world.is_delivered(packet)), Some(ms(10)));
}
