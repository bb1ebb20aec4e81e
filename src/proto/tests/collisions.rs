//! Both sides begin something at the same time, and datagrams arrive in any order; or two sessions have one index.

use std::time::Duration;

use super::pair::{Pair, Side, packet};
use crate::base::{PeerIndex, Rng, SessionIndex, TrafficClass};
use crate::proto::Dropped;
use crate::proto::peer::Peer;

const SIDES: [Side; 2] = [Side::A, Side::B];

fn peer(pair: &mut Pair, side: Side) -> &mut Peer {
    pair.end(side).node.peers.get_mut(PeerIndex(0)).unwrap()
}

/// Delivers what is on the wire, and whatever comes of it, in an order by chance; some of it is lost.
fn shuffle(pair: &mut Pair, rng: &mut Rng, lost_of_hundred: u32) {
    while !pair.wire.is_empty() {
        let place = rng.below(pair.wire.len() as u32) as usize;
        let datagram = pair.wire.remove(place).unwrap();
        if rng.below(100) >= lost_of_hundred {
            pair.deliver(&datagram);
        }
    }
}

/// Both send, and each sends on a session that is the one the other sends on.
fn assert_agreed(pair: &mut Pair, seed: u64) {
    for from in SIDES {
        let bytes = packet(from, &seed.to_be_bytes());
        pair.send(from, &bytes).unwrap();
        let datagram = pair.wire.back().cloned().unwrap();
        pair.run(Duration::from_millis(1));
        assert_eq!(pair.end(from.other()).received.last(), Some(&bytes), "seed {seed}, from {from:?}");
        let index = SessionIndex(u32::from_be_bytes(datagram.bytes[2..6].try_into().unwrap()));
        let followed =
            peer(pair, from.other()).sending().is_some_and(|session| session.indexes().any(|own| own == index));
        assert!(followed, "seed {seed}: {:?} sends on another session than {from:?}", from.other());
    }
}

#[test]
fn two_that_greet_each_other_at_once_agree_whatever_the_order_of_arrival() {
    for seed in 0..1000 {
        let mut rng = Rng::from_number(seed);
        let mut pair = Pair::new(&SIDES);
        pair.drain(Side::A);
        pair.drain(Side::B);
        // Some packets wait from the start, so that user data takes part in the disorder.
        for from in SIDES {
            if rng.below(2) == 0 {
                pair.send(from, &packet(from, b"early")).unwrap();
            }
        }
        shuffle(&mut pair, &mut rng, 0);
        pair.run(Duration::from_secs(3));
        assert_agreed(&mut pair, seed);
        pair.run(Duration::from_secs(12));
        for side in SIDES {
            assert_eq!(
                peer(&mut pair, side).sessions.len(),
                1,
                "seed {seed}: {side:?} keeps a session that nobody uses"
            );
            assert!(peer(&mut pair, side).attempt.is_none(), "seed {seed}: {side:?} goes on greeting");
        }
        assert_agreed(&mut pair, seed);
    }
}

#[test]
fn they_agree_also_if_datagrams_are_lost() {
    for seed in 0..300 {
        let mut rng = Rng::from_number(seed);
        let mut pair = Pair::new(&SIDES);
        pair.drain(Side::A);
        pair.drain(Side::B);
        shuffle(&mut pair, &mut rng, 30);
        for _ in 0..20 {
            pair.run_with(Duration::from_secs(1), |_| rng.below(100) >= 30);
        }
        pair.run(Duration::from_secs(15));
        assert_agreed(&mut pair, seed);
        pair.run(Duration::from_secs(12));
        assert_agreed(&mut pair, seed);
    }
}

#[test]
fn two_that_change_keys_at_once_come_to_the_same_epoch_whatever_the_order_of_arrival() {
    for seed in 0..500 {
        let mut rng = Rng::from_number(seed);
        let mut pair = Pair::connected();
        for round in 0..3 {
            let now = pair.now;
            for side in SIDES {
                peer(&mut pair, side).sending().unwrap().present_epoch().force_rekey(now);
                pair.end(side).node.settle(now, PeerIndex(0));
            }
            pair.now += Duration::from_millis(2);
            let now = pair.now;
            for side in SIDES {
                // With both, or with one a little later, when the record of the other may have arrived.
                if rng.below(4) > 0 {
                    pair.end(side).node.handle_timeout(now);
                    pair.drain(side);
                }
                if rng.below(3) == 0 {
                    shuffle(&mut pair, &mut rng, 0);
                }
            }
            shuffle(&mut pair, &mut rng, 0);
            pair.run(Duration::from_secs(1));
            assert_agreed(&mut pair, seed);
            let epochs = SIDES.map(|side| peer(&mut pair, side).sending().unwrap().epoch_number());
            assert_eq!(epochs[0], epochs[1], "seed {seed}, round {round}");
            assert!(epochs[0] > round + 1, "seed {seed}: no new keys in round {round}");
        }
        let drops = SIDES.map(|side| {
            let now = pair.now;
            pair.end(side).node.status(now).peers[0].drops.of(Dropped::Ignored)
        });
        assert!(drops.iter().all(|&ignored| ignored <= 6), "seed {seed}: {drops:?} records were not understood");
        let now = pair.now;
        assert_eq!(pair.a.node.status(now).peers[0].traffic.sessions, 1, "seed {seed}: it stays one session");
    }
}

#[test]
fn sessions_with_the_same_index_are_told_apart_by_their_keys() {
    for seed in 0..200 {
        let mut rng = Rng::from_number(seed);
        let mut pair = Pair::new(&SIDES);
        pair.drain(Side::A);
        pair.drain(Side::B);
        shuffle(&mut pair, &mut rng, 0);
        // Two sessions, as long as the one that is not sent on lingers.
        let sessions =
            SIDES.map(|side| peer(&mut pair, side).sessions.iter().filter(|session| session.is_confirmed()).count());
        if sessions != [2, 2] {
            continue;
        }
        let now = pair.now;
        for side in SIDES {
            for session in &mut peer(&mut pair, side).sessions {
                session.present_epoch().force_indexes(SessionIndex(7));
            }
            pair.end(side).node.settle(now, PeerIndex(0));
            // The second in the table must be found as well as the first.
            if rng.below(2) == 0 {
                peer(&mut pair, side).sessions.reverse();
            }
        }
        assert_agreed(&mut pair, seed);
        let mut noise = packet(Side::A, &[1; 300]);
        noise[..6].copy_from_slice(&[1, 0x10, 0, 0, 0, 7]);
        let (from, to) = (super::pair::address(Side::A), super::pair::address(Side::B));
        let forged = super::pair::Datagram { from, to, class: TrafficClass::default(), bytes: noise };
        assert_eq!(pair.deliver(&forged), Some(Err(Dropped::Forged)));
        assert_agreed(&mut pair, seed);
        return;
    }
    panic!("no order of arrival made two sessions");
}
