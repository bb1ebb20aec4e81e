//! What comes to an interface, judged by a program that is not ours.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, recvfrom};

use super::capture::{OUTGOING, open};
use super::namespace::{Namespace, execute};

/// Of the pcap format: magic number, version 2.4, no time zone, no precision, longest frame, Ethernet.
const FILE_HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 1 << 18, 1];

/// A running recording of the frames that come in.
#[derive(Debug)]
pub struct Recording {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<u8>>>,
}

impl Recording {
    pub fn begin(namespace: &Namespace, interface: &str) -> Self {
        let (descriptor, interface) = open(namespace, interface);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || record(&descriptor, interface, &stopped));
        Self { stop, thread: Some(thread) }
    }

    /// Ends it and lets tshark verify every checksum.
    #[track_caller]
    pub fn verify(mut self) -> Checksums {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), self.end().expect("a recording")).expect("writing a recording");
        let mut tshark = Command::new("tshark");
        tshark.args(["-n", "-Y", "tcp || udp", "-T", "fields", "-E", "occurrence=f", "-r"]).arg(file.path());
        for layer in ["ip", "tcp", "udp"] {
            tshark.args(["-o", &format!("{layer}.check_checksum:TRUE"), "-e", &format!("{layer}.checksum.status")]);
        }
        tshark.args(["-e", "tcp.checksum", "-e", "tcp.checksum_calculated", "-e", "frame.number"]);
        Checksums::parse(&execute(&mut tshark))
    }

    fn end(&mut self) -> Option<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}

/// Gives the file, in the format of pcap.
fn record(descriptor: &OwnedFd, interface: usize, stop: &AtomicBool) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let mut file = words(&FILE_HEADER);
    let mut buffer = vec![0; 1 << 17];
    loop {
        // What has come before the end is in the socket by then.
        let last = stop.load(Ordering::Relaxed);
        let mut descriptors = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut descriptors, PollTimeout::from(20_u8));
        while let Ok((length, Some(source))) = recvfrom::<LinkAddr>(descriptor.as_raw_fd(), &mut buffer) {
            if source.pkttype() != OUTGOING && source.ifindex() == interface {
                file.extend(words(&[0, 0, length as u32, length as u32]));
                file.extend(&buffer[..length]);
            }
        }
        if last {
            return file;
        }
    }
}

/// What tshark has found.
#[derive(Debug, Default)]
pub struct Checksums {
    /// How many packets have good checksums only, by IP version and transport protocol.
    good: BTreeMap<(u8, &'static str), usize>,
    /// How many have not, and what tshark said of the first: the verdicts on IPv4, TCP and UDP, what TCP has
    /// and should have, and the number of the frame.
    faulty: usize,
    first_faulty: Option<String>,
}

impl Checksums {
    #[track_caller]
    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let [ip, tcp, udp, written, right, _] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("tshark said: {line}")
            };
            let is_good = |verdict| ["1", "Good"].contains(&verdict);
            let protocol = if tcp.is_empty() { "udp" } else { "tcp" };
            let (version, ip_is_good) = if ip.is_empty() { (6, true) } else { (4, is_good(ip)) };
            // Linux writes a zero so not in UDP alone, where it has to, but in TCP too (skb_checksum_help); both are zero to who adds them up.
            let is_zero = !tcp.is_empty() && written == "0xffff" && right == "0x0000";
            if ip_is_good && (is_good(tcp) || is_good(udp) || is_zero) {
                *found.good.entry((version, protocol)).or_default() += 1;
            } else {
                found.faulty += 1;
                found.first_faulty.get_or_insert_with(|| line.to_owned());
            }
        }
        found
    }

    /// None is faulty, and at least so many of each kind have been looked at.
    #[track_caller]
    pub fn assert_all_good(&self, least: usize) {
        assert_eq!(self.faulty, 0, "{self:?}");
        for kind in [(4, "tcp"), (4, "udp"), (6, "tcp"), (6, "udp")] {
            assert!(
                self.good.get(&kind).is_some_and(|count| *count >= least),
                "fewer than {least} of {kind:?}: {self:?}"
            );
        }
    }
}
