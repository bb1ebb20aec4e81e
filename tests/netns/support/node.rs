//! One node: its namespace, its key and configuration, and its daemon.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lab::Setup;
use super::namespace::{Namespace, execute};
use super::status::Status;
use super::{PORT, becomes_true, seconds};

const BINARY: &str = env!("CARGO_BIN_EXE_handfast");

/// A node, named `a`, `b`, .. by its number.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub number: u8,
    pub host: Namespace,
    pub public_key: String,
    directory: PathBuf,
    daemon: Mutex<Option<Child>>,
}

/// Makes the nodes of a lab, with keys, and configurations in which each knows all others.
pub fn enrol(setup: &Setup, lab: &str, directory: &Path) -> Vec<Node> {
    let nodes: Vec<Node> = (1..=setup.nodes).map(|number| Node::new(number, lab, directory)).collect();
    for node in &nodes {
        let peers = nodes.iter().filter(|peer| peer.number != node.number);
        node.configure(&node.configuration(setup, peers));
    }
    nodes
}

impl Node {
    fn new(number: u8, lab: &str, directory: &Path) -> Self {
        Self::named(&char::from(b'a' + number - 1).to_string(), number, lab, directory)
    }

    /// One with a key and no configuration.
    pub fn named(name: &str, number: u8, lab: &str, directory: &Path) -> Self {
        let name = name.to_owned();
        let host = Namespace::new(format!("{lab}-{name}"));
        let directory = directory.join(&name);
        fs::create_dir(&directory).expect("a directory");
        let public_key = keygen(&directory.join("identity.key"));
        Self { name, number, host, public_key, directory, daemon: Mutex::new(None) }
    }

    fn configuration<'a>(&self, setup: &Setup, peers: impl Iterator<Item = &'a Self>) -> String {
        let mut text = self.own_sections(setup.mtu);
        // In these labs, what goes where is the point: the link is not asked for more.
        text += "[discovery]\nlan = false\n";
        for peer in peers {
            text += &peer.peer_section(&[SocketAddr::new(setup.family.address(peer.number), PORT)]);
        }
        if let Some(port) = setup.reliable_port {
            write!(text, "[[channel]]\nname = \"reliable\"\nmatch = {{ protocol = \"udp\", port = {port} }}\n")
                .expect("writing to a string");
        }
        text
    }

    /// What a configuration says of the node itself.
    pub fn own_sections(&self, mtu: u16) -> String {
        format!(
            "[interface]\naddresses = [\"{}/24\", \"{}/64\"]\nmtu = {mtu}\n[identity]\nkey_file = {:?}\n[control]\nsocket = {:?}\n",
            self.v4(),
            self.v6(),
            self.directory.join("identity.key"),
            self.socket()
        )
    }

    /// What the configuration of another says of this node, which is reached at these addresses, if anywhere.
    pub fn peer_section(&self, endpoints: &[SocketAddr]) -> String {
        let mut text = format!("[[peer]]\nname = \"{}\"\npublic_key = \"{}\"\n", self.name, self.public_key);
        if !endpoints.is_empty() {
            let endpoints: Vec<_> = endpoints.iter().map(|it| format!("\"{it}\"")).collect();
            writeln!(text, "endpoints = [{}]", endpoints.join(", ")).expect("writing to a string");
        }
        writeln!(text, "prefixes = [\"{}/32\", \"{}/128\"]", self.v4(), self.v6()).expect("writing to a string");
        text
    }

    /// Gives the node this configuration; the daemon reads it when it starts.
    pub fn configure(&self, text: &str) {
        fs::write(self.config_file(), text).expect("writing a configuration");
    }

    fn config_file(&self) -> PathBuf {
        self.directory.join("handfast.toml")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// Changes the configuration; the daemon reads it when it starts.
    pub fn change_configuration(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config_file()).expect("a configuration");
        fs::write(self.config_file(), change(text)).expect("writing a configuration");
    }

    /// Writes into the configuration whether super packets cross the interface.
    pub fn set_offload(&self, on: bool) {
        self.change_configuration(|text| text.replace("[identity]", &format!("offload = {on}\n[identity]")));
    }

    /// Takes all endpoints out of the configuration: a node that knows no address never speaks first.
    pub fn forget_endpoints(&self) {
        self.change_configuration(|text| {
            text.lines().filter(|line| !line.starts_with("endpoints")).map(|line| format!("{line}\n")).collect()
        });
    }

    /// The public key of an identity that nobody uses.
    pub fn strange_key(&self) -> String {
        keygen(&self.directory.join("strange.key"))
    }

    /// Gives `eth0` its addresses and takes it up.
    pub fn address_underlay(&self) {
        self.host.run(&format!("ip addr add 192.0.2.{}/24 dev eth0", self.number));
        self.host.run(&format!("ip addr add 2001:db8::{:x}/64 dev eth0 nodad", self.number));
        self.host.run("ip link set eth0 up");
    }

    /// Own IPv4 address in the tunnel.
    pub fn v4(&self) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, self.number).into()
    }

    /// Own address in the tunnel, of the same version of IP as `other`.
    pub fn like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4() } else { self.v6() }
    }

    /// Own IPv6 address in the tunnel.
    pub fn v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    /// Starts the daemon and waits until it answers.
    #[track_caller]
    pub fn start(&self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log");
        let child = self
            .host
            .command(BINARY)
            .args(["up", "-v", "--config"])
            .arg(self.config_file())
            .env("NO_COLOR", "1")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting a daemon");
        *self.daemon.lock().expect("no other panic") = Some(child);
        let up = becomes_true(seconds(20), || !self.is_running() || self.try_status().is_some());
        assert!(up && self.is_running(), "the daemon of {} did not come up:\n{}", self.name, self.log());
    }

    /// Whether the daemon lives.
    pub fn is_running(&self) -> bool {
        let mut daemon = self.daemon.lock().expect("no other panic");
        daemon.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process of the daemon.
    #[track_caller]
    pub fn process(&self) -> u32 {
        self.daemon.lock().expect("no other panic").as_ref().expect("a running daemon").id()
    }

    /// Ends the daemon by SIGTERM; it must be gone within five seconds.
    #[track_caller]
    pub fn stop(&self) -> ExitStatus {
        let mut child = self.daemon.lock().expect("no other panic").take().expect("a running daemon");
        kill(Pid::from_raw(child.id().try_into().expect("a process id")), Signal::SIGTERM).expect("SIGTERM");
        let mut status = None;
        let gone = becomes_true(seconds(5), || {
            status = child.try_wait().expect("a child");
            status.is_some()
        });
        if !gone {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the daemon of {} does not stop:\n{}", self.name, self.log());
        }
        status.expect("it is gone")
    }

    /// Ends the daemon with no chance to say good-bye.
    pub fn kill(&self) {
        if let Some(mut child) = self.daemon.lock().expect("no other panic").take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let output =
            Command::new(BINARY).arg("status").args(arguments).arg("--socket").arg(self.socket()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn try_status(&self) -> Option<Status> {
        self.ask(&["--json"]).map(|text| Status::parse(&text))
    }

    /// What `handfast status --json` says.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|| panic!("{} does not answer:\n{}", self.name, self.log()))
    }

    /// What a command of these words prints with `--json`, if it succeeds.
    pub fn try_json(&self, words: &[&str]) -> Option<serde_json::Value> {
        let output = Command::new(BINARY).args(words).args(["--json", "--socket"]).arg(self.socket()).output().ok()?;
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        self.try_json(words).unwrap_or_else(|| panic!("{} does not answer to {words:?}:\n{}", self.name, self.log()))
    }

    /// What `handfast status` says to a person.
    #[track_caller]
    pub fn status_text(&self) -> String {
        self.ask(&[]).unwrap_or_else(|| panic!("{} does not answer:\n{}", self.name, self.log()))
    }

    /// How long the session with `peer` has been there.
    #[track_caller]
    pub fn session_age(&self, peer: &Self) -> Duration {
        self.status().peer(&peer.name).session_age().unwrap_or_else(|| panic!("no session with {}", peer.name))
    }

    /// Resident memory of the daemon, in bytes.
    #[track_caller]
    pub fn resident(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process())).expect("a process");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The end of what the daemon has logged.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log());
        }
        self.kill();
    }
}

fn keygen(file: &Path) -> String {
    execute(Command::new(BINARY).args(["keygen", "--out"]).arg(file)).trim().to_owned()
}
