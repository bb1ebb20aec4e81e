//! The committed corpora of the fuzz targets, replayed with the stable compiler.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

#[path = "checks/channels.rs"]
mod channels;
#[path = "checks/inner_ip.rs"]
mod inner_ip;
#[path = "checks/mesh.rs"]
mod mesh;
#[path = "checks/node.rs"]
mod node;
#[path = "checks/offload.rs"]
mod offload;
#[path = "checks/parts.rs"]
mod parts;
#[path = "checks/wire.rs"]
mod wire;

use std::fs;
use std::path::Path;

use handfast::base::Rng;

/// Gives every file in the corpus of `target` to `check`.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {}", folder.display());
    for file in files {
        check(&fs::read(&file).unwrap());
    }
}

#[test]
fn every_packet_of_the_corpus_is_encoded_to_the_same_bytes() {
    replay("packet", wire::packet);
}

#[test]
fn every_frame_of_the_corpus_is_encoded_to_the_same_bytes() {
    replay("frames", wire::frames);
}

#[test]
fn every_record_of_the_corpus_is_encoded_to_the_same_bytes() {
    replay("records", wire::record);
}

#[test]
fn every_inner_packet_of_the_corpus_is_seen_as_the_reference_sees_it() {
    replay("inner_ip", inner_ip::inner_ip);
}

#[test]
fn every_play_of_the_corpus_leaves_the_channels_within_their_bounds() {
    replay("channels", channels::channels);
}

#[test]
fn all_parts_of_the_corpus_come_together_in_order_or_not_at_all() {
    replay("parts", parts::parts);
}

#[test]
fn every_read_of_the_corpus_is_refused_or_its_pieces_arrive() {
    replay("offload", offload::offload);
}

#[test]
fn no_script_of_the_corpus_leaves_two_nodes_apart() {
    replay("node", node::pair);
}

#[test]
fn no_script_of_the_corpus_lets_an_insider_do_harm() {
    replay("insider", |script| {
        node::insider(script);
    });
}

#[test]
fn no_script_of_the_corpus_lets_two_members_do_harm_to_others() {
    replay("mesh", |script| {
        mesh::mesh(script);
    });
}

#[test]
fn the_two_members_reach_what_they_attack() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/mesh");
    for (script, answers, strangers) in
        [("introduction", 5, true), ("forged-introduction", 0, false), ("candidates", 0, true)]
    {
        let (answered, strange) = mesh::mesh(&fs::read(folder.join(script)).unwrap());
        assert_eq!((answered, strange > 0), (answers, strangers), "{script}");
    }
}

#[test]
fn the_insider_has_the_right_keys() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/insider");
    for (script, delivered) in [("finish-and-data", 1), ("reliable", 2), ("parts", 1), ("before-finish", 0)] {
        assert_eq!(node::insider(&fs::read(folder.join(script)).unwrap()), delivered, "{script}");
    }
}

/// What fuzzing does with more patience: scripts of random bytes, of which many begin like one of the corpus.
#[test]
fn no_random_script_breaks_a_node() {
    for (target, check) in [
        ("node", (|script| node::pair(script)) as fn(&[u8])),
        ("insider", |script| {
            node::insider(script);
        }),
        ("mesh", |script| {
            mesh::mesh(script);
        }),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        let mut begins: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        begins.sort();
        let mut rng = Rng::from_number(1);
        let count = std::env::var("SCRIPTS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
        for number in 0..count {
            let begin = fs::read(&begins[number % begins.len()]).unwrap();
            let mut script = begin[..rng.below(begin.len() as u32 + 1) as usize].to_vec();
            let mut random = vec![0; rng.below(300) as usize];
            rng.fill(&mut random);
            script.extend(random);
            let result = std::panic::catch_unwind(|| check(&script));
            assert!(result.is_ok(), "{target}, script {number}: {script:?}");
        }
    }
}
