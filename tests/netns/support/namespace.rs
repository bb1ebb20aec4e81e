//! One network namespace: programs and sockets inside it.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::{becomes_true, seconds};

/// A network namespace that ends with this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new, empty one, with its loopback interface up.
    pub fn new(name: String) -> Self {
        execute(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.run("ip link set lo up");
        namespace
    }

    /// As `ip netns` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// `program`, to be started inside. What is started is the program itself: its process id is the child's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program).stdin(Stdio::null());
        command
    }

    /// Runs one command line, split at spaces, and gives its output; it must succeed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split(' ');
        execute(self.command(words.next().expect("a program")).args(words))
    }

    /// Loads nftables rules.
    #[track_caller]
    pub fn rules(&self, rules: &str) {
        let directory = tempfile::TempDir::new().expect("a directory");
        let file = directory.path().join("rules");
        std::fs::write(&file, rules).expect("writing rules");
        execute(self.command("nft").arg("-f").arg(&file));
    }

    /// Writes a kernel parameter below `/proc/sys/net`.
    #[track_caller]
    pub fn set(&self, parameter: &str, value: &str) {
        let path = format!("/proc/sys/net/{parameter}");
        self.inside(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// The sum of these counters of the kernel, as `nstat` calls them.
    #[track_caller]
    pub fn counted(&self, names: &str) -> u64 {
        let text = self.run(&format!("nstat -asz {names}"));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Packets that the kernel has refused because a checksum was wrong.
    #[track_caller]
    pub fn checksum_errors(&self) -> u64 {
        self.counted("TcpInCsumErrors UdpInCsumErrors Udp6InCsumErrors IcmpInCsumErrors Icmp6InCsumErrors")
    }

    /// What `work` gives when a thread inside does it. Sockets and devices made there stay inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).expect("a namespace");
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&namespace, CloneFlags::CLONE_NEWNET).expect("entering a namespace");
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A UDP socket inside, bound to `address`.
    #[track_caller]
    pub fn udp(&self, address: impl Into<SocketAddr>) -> UdpSocket {
        self.bind(address.into(), UdpSocket::bind)
    }

    /// A TCP listener inside, bound to `address`.
    #[track_caller]
    pub fn listener(&self, address: impl Into<SocketAddr>) -> TcpListener {
        self.bind(address.into(), TcpListener::bind)
    }

    /// An address may be in use a moment longer than the socket that had it: what another test starts holds a copy of every descriptor until it is executed.
    #[track_caller]
    fn bind<T: Send>(&self, address: SocketAddr, bind: fn(SocketAddr) -> std::io::Result<T>) -> T {
        let mut bound = None;
        becomes_true(seconds(5), || {
            let result = self.inside(|| bind(address));
            let is_final = !matches!(&result, Err(error) if error.kind() == ErrorKind::AddrInUse);
            bound = Some(result);
            is_final
        });
        bound.expect("tried once").unwrap_or_else(|error| panic!("binding {address}: {error}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub fn execute(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text.into_owned()
}
