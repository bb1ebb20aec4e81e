//! Members on one link, with and without an Internet behind it.

use handfast::proto::Hop;

use crate::mesh_of::{AMPLE, primary, reach};
use crate::nat::{Behaviour, Way};
use crate::network::INTERNET;
use crate::world::{Families, Line, World, ms, secs, seeds};

#[test]
fn two_members_on_a_link_without_internet_find_each_other() {
    for seed in seeds(20) {
        let mut world = World::empty(seed, Line::clean(ms(20)));
        let hub = world.add_host(INTERNET, Families::V4);
        let lan = world.add_lan(INTERNET, Some(Way::Blocked), None);
        let [one, other] = [0, 1].map(|_| world.add_host(lan, Families::V4));
        world.publish(&[hub]);
        for host in [hub, one, other] {
            world.start(host);
            world.run_for(ms(500));
        }
        let took = reach(&mut world, one, other, secs(5)).expect("they met by announcements");
        assert!(took <= ms(100), "{took:?}");
        world.run_for(ms(10));
        let at = world.hosts[other].address;
        assert_eq!(primary(&world, one, other), Some(Hop::Direct(at)));
        assert_eq!(world.session(one, hub), None);
    }
}

#[test]
fn whoever_comes_to_a_link_later_is_found_there() {
    for seed in seeds(20) {
        let mut world = World::empty(seed, Line::clean(ms(20)));
        let lan = world.add_lan(INTERNET, Some(Way::Blocked), None);
        let [one, other] = [0, 1].map(|_| world.add_host(lan, Families::BOTH));
        world.publish(&[]);
        world.start(one);
        world.run_for(secs(1000));
        // What wants out before the other is there makes a search, which the announcement serves.
        world.send(one, other);
        world.run_for(secs(1));
        world.start(other);
        let packet = world.packets_sent() - 1;
        let took = world.run_until(secs(2), |world| world.is_delivered(packet)).expect("it is found");
        assert!(took <= secs(1), "{took:?}");
    }
}

#[test]
fn two_members_behind_one_router_use_their_link_with_and_without_hairpin() {
    for hairpin in [false, true] {
        for seed in seeds(10) {
            for multicast in [true, false] {
                let mut world = World::empty(seed, Line::clean(ms(20)));
                let hub = world.add_host(INTERNET, Families::V4);
                world.hosts[hub].relay = Some(AMPLE);
                let lan = world.add_lan(INTERNET, Some(Way::Nat(Behaviour { hairpin, ..Behaviour::home() })), None);
                let [one, other] = [0, 1].map(|_| world.add_host(lan, Families::V4));
                world.publish(&[hub]);
                world.multicast = multicast;
                for host in [hub, one, other] {
                    world.start(host);
                }
                world.run_for(secs(5));
                let took = reach(&mut world, one, other, secs(5)).expect("they meet");
                assert!(took <= ms(400), "{took:?} hairpin {hairpin} multicast {multicast}");
                for _ in 0..20 {
                    world.send(one, other);
                    world.send(other, one);
                    world.run_for(ms(100));
                }
                let at = [one, other].map(|host| Some(Hop::Direct(world.hosts[host].address)));
                assert_eq!([primary(&world, other, one), primary(&world, one, other)], at, "SIM_SEED={seed}");
            }
        }
    }
}
