//! A wire with delay: the underlay interfaces of two nodes are TUN devices, and this is what lies between them.
//!
//! It remembers each Handfast datagram with the number of one-way trips that had to come before it, so that a test can count round trips where a clock would
//! measure the load of the machine.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::capture::Datagram;
use super::namespace::Namespace;

/// How long the wire sleeps when it has nothing to do.
const NAP: Duration = Duration::from_micros(200);

/// A datagram on the wire.
#[derive(Clone, Debug)]
pub struct Travelled {
    /// The one-way trip it was on, counted from 1: one more than that of the last datagram which had arrived where this one began.
    pub trip: u32,
    pub datagram: Datagram,
}

/// A wire between two namespaces; ends with this value.
pub struct DelayLine {
    stop: Arc<AtomicBool>,
    travelled: Arc<Mutex<Vec<Travelled>>>,
    thread: Option<JoinHandle<()>>,
}

impl DelayLine {
    /// Gives both namespaces an interface `eth0`, and joins them.
    pub fn between(a: &Namespace, b: &Namespace, delay: Duration) -> Self {
        let open = |namespace: &Namespace| {
            let device = namespace.inside(|| {
                let mut configuration = tun::Configuration::default();
                configuration.tun_name("eth0").mtu(1500);
                tun::create(&configuration)
            });
            let device = device.expect("a TUN device");
            device.set_nonblock().expect("a descriptor");
            device
        };
        let ends = [End::new(open(a)), End::new(open(b))];
        let (stop, travelled) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let line = Line { ends, delay, travelled: Arc::clone(&travelled) };
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || line.run(&stopped));
        Self { stop, travelled, thread: Some(thread) }
    }

    /// All Handfast datagrams so far.
    pub fn travelled(&self) -> Vec<Travelled> {
        self.travelled.lock().expect("no other panic").clone()
    }
}

impl fmt::Debug for DelayLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayLine").finish_non_exhaustive()
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One end: its device, what is under way to it, and the latest trip that has arrived at it.
struct End {
    device: tun::Device,
    coming: VecDeque<(Instant, u32, Vec<u8>)>,
    arrived: u32,
}

impl End {
    fn new(device: tun::Device) -> Self {
        Self { device, coming: VecDeque::new(), arrived: 0 }
    }

    /// Hands over what is due. Says whether there was any.
    fn hand_over(&mut self, now: Instant) -> bool {
        let mut any = false;
        while self.coming.front().is_some_and(|(due, _, _)| *due <= now)
            && let Some((_, trip, packet)) = self.coming.pop_front()
        {
            self.arrived = self.arrived.max(trip);
            // A full queue loses packets, as on any wire.
            let _ = self.device.send(&packet);
            any = true;
        }
        any
    }
}

struct Line {
    ends: [End; 2],
    delay: Duration,
    travelled: Arc<Mutex<Vec<Travelled>>>,
}

impl Line {
    fn run(mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let mut busy = false;
            for from in [0, 1] {
                busy |= self.ends[from].hand_over(Instant::now());
                while let Ok(length) = self.ends[from].device.recv(&mut buffer) {
                    self.take(from, buffer[..length].to_vec());
                    busy = true;
                }
            }
            if !busy {
                thread::sleep(NAP);
            }
        }
    }

    fn take(&mut self, from: usize, packet: Vec<u8>) {
        let trip = match Datagram::parse_ip(&packet) {
            Some(datagram) => {
                let trip = self.ends[from].arrived + 1;
                self.travelled.lock().expect("no other panic").push(Travelled { trip, datagram });
                trip
            }
            // Neighbour discovery and the like carry no cause.
            None => 0,
        };
        self.ends[1 - from].coming.push_back((Instant::now() + self.delay, trip, packet));
    }
}
