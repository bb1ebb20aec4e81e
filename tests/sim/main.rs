//! Deterministic simulation of nodes through the public contract of the core (`handfast::proto`), one file per behaviour.
//!
//! `SIM_SEED=n cargo test --test sim name` runs a scenario with one seed: the one that a failure has printed. With `SIM_TRACE` set, too, every datagram,
//! event and delivered packet is printed. `SIM_TOPOLOGIES=n` lets the mesh run in so many random topologies, from `SIM_FIRST` on.

#[cfg(test)]
mod adversary;
#[cfg(test)]
mod amplification;
#[cfg(test)]
mod demand;
#[cfg(test)]
mod determinism;
#[cfg(test)]
mod first_contact;
#[cfg(test)]
mod idle;
#[cfg(test)]
mod introductions;
#[cfg(test)]
mod lan;
#[cfg(test)]
mod line;
#[cfg(test)]
mod lists;
mod long_run;
#[cfg(test)]
mod marks;
#[cfg(test)]
mod measure;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod mesh;
#[cfg(test)]
mod mesh_of;
#[cfg(test)]
mod mtu;
#[cfg(test)]
mod nat;
#[cfg(test)]
mod network;
#[cfg(test)]
mod noise;
mod outages;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod places;
#[cfg(test)]
mod rekey;
#[cfg(test)]
mod relays;
#[cfg(test)]
mod reliable;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod roaming;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod sprays;
#[cfg(test)]
mod theory;
#[cfg(test)]
mod three;
#[cfg(test)]
mod topology;
#[cfg(test)]
mod world;
