//! A TCP transfer at an even rate, and how long its receiver had to wait.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::seconds;
use super::traffic::{PORT, pattern};

/// This much every [`PAUSE`]: 800 kB a second.
const CHUNK: usize = 8000;
const PAUSE: Duration = Duration::from_millis(10);
/// A transfer that waits for so long has failed.
const PATIENCE: Duration = seconds(30);

/// A transfer that runs until it is told to finish.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    arrivals: Arc<Mutex<Arrivals>>,
    sender: Option<JoinHandle<usize>>,
    receiver: Option<JoinHandle<usize>>,
}

#[derive(Debug)]
struct Arrivals {
    last: Instant,
    longest: Duration,
}

impl Steady {
    /// Connects, and begins.
    #[track_caller]
    pub fn begin(from: &Namespace, to: &Namespace, address: IpAddr) -> Self {
        let listener = to.listener((address, PORT));
        let destination = listener.local_addr().expect("bound");
        let mut sending = from.inside(|| TcpStream::connect_timeout(&destination, PATIENCE)).expect("a connection");
        sending.set_nodelay(true).expect("a socket");
        sending.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let (mut receiving, _) = listener.accept().expect("a connection");
        receiving.set_read_timeout(Some(PATIENCE)).expect("a socket");

        let stop = Arc::new(AtomicBool::new(false));
        let arrivals = Arc::new(Mutex::new(Arrivals { last: Instant::now(), longest: Duration::ZERO }));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let chunk = pattern(CHUNK);
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                sending.write_all(&chunk).expect("the connection lives");
                sent += chunk.len();
                thread::sleep(PAUSE);
            }
            sent
        });
        let noted = Arc::clone(&arrivals);
        let receiver = thread::spawn(move || {
            let chunk = pattern(CHUNK);
            let (mut buffer, mut received) = ([0; CHUNK], 0);
            loop {
                let length = receiving.read(&mut buffer).expect("the connection lives");
                if length == 0 {
                    return received;
                }
                let expected = chunk.iter().cycle().skip(received % CHUNK);
                assert!(buffer[..length].iter().eq(expected.take(length)), "other bytes arrive after {received}");
                received += length;
                let mut arrivals = noted.lock().expect("no other panic");
                let now = Instant::now();
                arrivals.longest = arrivals.longest.max(now - arrivals.last);
                arrivals.last = now;
            }
        });
        Self { stop, arrivals, sender: Some(sender), receiver: Some(receiver) }
    }

    /// What comes from now on is measured; what was before is not.
    pub fn forget_gaps(&self) {
        self.arrivals.lock().expect("no other panic").longest = Duration::ZERO;
    }

    /// For how long nothing has come.
    pub fn silence(&self) -> Duration {
        self.arrivals.lock().expect("no other panic").last.elapsed()
    }

    /// The longest time without a byte since the transfer began or gaps were forgotten, the present one included.
    pub fn longest_gap(&self) -> Duration {
        let arrivals = self.arrivals.lock().expect("no other panic");
        arrivals.longest.max(arrivals.last.elapsed())
    }

    /// Ends it: all that was sent must have come.
    #[track_caller]
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let end =
            |thread: Option<JoinHandle<usize>>| thread.expect("not finished").join().expect("the transfer has failed");
        let (sent, received) = (end(self.sender.take()), end(self.receiver.take()));
        assert_eq!(sent, received);
        assert!(sent > 0, "nothing was sent");
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
