//! Peers lists: what members learn of each other without asking for anybody, and what that costs those whom it does not concern.

use std::time::Duration;

use crate::mesh_of::Mesh;
use crate::nat::Behaviour;
use crate::world::{HostId, Line, World, ms, secs, seeds};

/// More than fit into one page.
const HOMES: usize = 40;
/// How often a list is pulled, and the next page; how long it takes until the ends of a session agree that one of them is gone.
const PULL: Duration = secs(330);
const GONE: Duration = secs(300);

fn mesh(seed: u64, hubs: usize) -> Mesh {
    Mesh::running(seed, Line::clean(ms(20)), hubs, None, &[Behaviour::home(); HOMES])
}

/// How many members say that they know a host.
fn known_by(world: &World, host: HostId, of: HostId) -> usize {
    world.status(host, of).known_by.len()
}

#[test]
fn everybody_learns_of_all_others_page_by_page_as_they_come_and_go() {
    for seed in seeds(2) {
        let mut mesh = mesh(seed, 1);
        let homes = mesh.homes.clone();
        let (late, watcher) = (homes[7], homes[0]);
        let all_known = |world: &World, except: Option<HostId>| {
            let others = homes.iter().filter(|&&home| home != watcher && Some(home) != except);
            others.copied().all(|home| known_by(world, watcher, home) == 1)
        };
        mesh.world.run_for(PULL);
        assert!(all_known(&mesh.world, None), "seed {seed}");
        mesh.world.kill(late);
        mesh.world.run_for(GONE + PULL);
        assert_eq!(known_by(&mesh.world, watcher, late), 0, "seed {seed}: it is gone");
        assert!(all_known(&mesh.world, Some(late)), "seed {seed}");
        mesh.world.start(late);
        mesh.world.run_for(PULL);
        assert!(all_known(&mesh.world, None), "seed {seed}: it is back");
        // Who begins anew learns of all at once.
        mesh.world.restart(watcher);
        mesh.world.run_for(secs(5));
        assert!(all_known(&mesh.world, None), "seed {seed}");
        // The versions of a hub that begins anew are others.
        mesh.world.restart(mesh.hubs[0]);
        mesh.world.run_for(secs(400));
        assert!(all_known(&mesh.world, None), "seed {seed}");
    }
}

/// Datagrams and bytes that all but some have sent in a while.
fn sent_by_others(world: &mut World, but: &[HostId], during: Duration) -> (u64, u64) {
    let before = world.sent.clone();
    world.run_for(during);
    let others = (0..before.len()).filter(|host| !but.contains(host));
    others.fold((0, 0), |sum, host| {
        (sum.0 + world.sent[host].0 - before[host].0, sum.1 + world.sent[host].1 - before[host].1)
    })
}

#[test]
fn that_one_member_moves_is_told_to_nobody() {
    for seed in seeds(2) {
        let mut mesh = mesh(seed, 3);
        mesh.world.run_for(secs(1000));
        let mover = mesh.homes[3];
        let but: Vec<HostId> = mesh.hubs.iter().copied().chain([mover]).collect();
        let (at_rest, _) = sent_by_others(&mut mesh.world, &but, secs(200));
        // Ten times from one place to another.
        let places = [mesh.lans[3], mesh.lans[4]];
        let mut moved = 0;
        for number in 0..10 {
            mesh.world.move_to(mover, places[(number + 1) % 2]);
            moved += sent_by_others(&mut mesh.world, &but, secs(20)).0;
        }
        // A neighbour greets it where it comes to, and keepalives come as they come; ten datagrams to each would be four hundred.
        assert!(
            moved <= at_rest + HOMES as u64,
            "seed {seed}: {moved} datagrams of {HOMES} members, {at_rest} at rest"
        );
        let news = mesh.homes.iter().filter(|&&home| mesh.world.session(home, mover).is_some()).count();
        assert_eq!(news, 0, "nobody has taken up a session with it");
    }
}
