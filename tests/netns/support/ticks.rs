//! A datagram every 10 ms both ways between two hosts, and how long either had to wait for one. Nothing is sent again, so a gap is as long as the way was closed; that of a TCP transfer ends
//! only with its next retransmission, up to twice as late.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::node::Node;

const PORT: u16 = 7001;
const PAUSE: Duration = Duration::from_millis(10);
/// How often a thread that waits looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Datagrams that are sent until this value ends.
#[derive(Debug)]
pub struct Ticks {
    stop: Arc<AtomicBool>,
    /// At either host.
    arrivals: [Arc<Mutex<Pauses>>; 2],
    /// Of either sender.
    departures: [Arc<Mutex<Pauses>>; 2],
    threads: Vec<JoinHandle<()>>,
}

/// When something happened last, and the longest time without it.
#[derive(Debug)]
struct Pauses {
    last: Instant,
    longest: Duration,
}

impl Pauses {
    fn begin() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { last: Instant::now(), longest: Duration::ZERO }))
    }

    fn note(&mut self) {
        let now = Instant::now();
        self.longest = self.longest.max(now - self.last);
        self.last = now;
    }

    /// The present one included.
    fn longest(&self) -> Duration {
        self.longest.max(self.last.elapsed())
    }
}

fn longest(all: &[Arc<Mutex<Pauses>>; 2]) -> Duration {
    let [one, other] = all;
    let longest = |pauses: &Mutex<Pauses>| pauses.lock().expect("no other panic").longest();
    longest(one).max(longest(other))
}

impl Ticks {
    /// Begins, inside the tunnel.
    pub fn begin(a: &Node, b: &Node) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let arrivals = [Pauses::begin(), Pauses::begin()];
        let departures = [Pauses::begin(), Pauses::begin()];
        let mut threads = Vec::new();
        for (number, (own, other)) in [(a, b), (b, a)].into_iter().enumerate() {
            let socket = own.host.udp((own.v4(), PORT));
            socket.set_read_timeout(Some(LOOK)).expect("a socket");
            let receiver = socket.try_clone().expect("a socket");
            let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&departures[number]));
            let to = other.v4();
            threads.push(thread::spawn(move || send(&socket, to, &stopped, &noted)));
            let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&arrivals[number]));
            threads.push(thread::spawn(move || receive(&receiver, &stopped, &noted)));
        }
        Self { stop, arrivals, departures, threads }
    }

    /// What comes from now on is measured; what was before is not.
    pub fn forget_gaps(&self) {
        for pauses in self.arrivals.iter().chain(&self.departures) {
            pauses.lock().expect("no other panic").longest = Duration::ZERO;
        }
    }

    /// The longest time for which either host has waited.
    pub fn longest_gap(&self) -> Duration {
        longest(&self.arrivals)
    }

    /// The longest time for which a thread was kept from sending, which takes as good as nothing: the machine was busy with something else for so long.
    pub fn longest_stall(&self) -> Duration {
        longest(&self.departures).saturating_sub(PAUSE)
    }
}

fn send(socket: &UdpSocket, to: IpAddr, stop: &AtomicBool, departures: &Mutex<Pauses>) {
    while !stop.load(Ordering::Relaxed) {
        // Where there is no way at the moment, the host says so.
        let _ = socket.send_to(b"tick", SocketAddr::new(to, PORT));
        departures.lock().expect("no other panic").note();
        thread::sleep(PAUSE);
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, arrivals: &Mutex<Pauses>) {
    while !stop.load(Ordering::Relaxed) {
        if socket.recv(&mut [0; 16]).is_ok() {
            arrivals.lock().expect("no other panic").note();
        }
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
