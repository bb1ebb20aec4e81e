//! Ordinary programs, run on a node: ping and iperf3.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::node::Node;
use super::{becomes_true, seconds};

/// What `ping` has printed.
#[derive(Debug)]
pub struct Ping {
    pub sent: u32,
    pub received: u32,
    /// How often it was told, by its own host or another, that a packet does not get through.
    pub errors: u32,
    pub text: String,
}

impl Ping {
    fn parse(text: String) -> Self {
        let numbers = text.lines().find(|line| line.contains("packets transmitted")).map(|line| {
            let counts = line.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
            counts.collect::<Vec<u32>>()
        });
        let (sent, received) = match numbers.as_deref() {
            Some([sent, received, ..]) => (*sent, *received),
            _ => panic!("ping said: {text}"),
        };
        let errors = text.lines().find_map(|line| line.split(", +").nth(1)?.split(' ').next()?.parse().ok());
        Self { sent, received, errors: errors.unwrap_or(0), text }
    }

    /// Every request was answered, once.
    #[track_caller]
    pub fn assert_all_answered(&self) {
        assert_eq!(self.received, self.sent, "{}", self.text);
        assert!(!self.text.contains("DUP!"), "{}", self.text);
    }
}

/// A `ping` that runs.
#[derive(Debug)]
pub struct RunningPing(Option<Child>);

impl RunningPing {
    /// Waits for its end.
    pub fn finish(mut self) -> Ping {
        let output = self.0.take().expect("not finished").wait_with_output().expect("ping");
        Ping::parse(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for RunningPing {
    fn drop(&mut self) {
        end(self.0.take());
    }
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Node {
    fn ping_command(&self, to: IpAddr, options: &str) -> Command {
        let mut command = self.host.command("ping");
        command.args(options.split(' ')).arg(to.to_string()).stdout(Stdio::piped());
        command
    }

    /// Pings with these options, and waits for the end.
    #[track_caller]
    pub fn ping_with(&self, to: IpAddr, options: &str) -> Ping {
        let output = self.ping_command(to, options).output().expect("ping");
        Ping::parse(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Pings so many times with these options, and gives each five seconds. Not in one run of the program: it gives the last ping no more than its interval, whatever
    /// `-W` says, once another was answered, and that is little on a busy machine.
    #[track_caller]
    pub fn ping_patiently(&self, to: IpAddr, count: u32, options: &str) -> Ping {
        let mut all = Ping { sent: 0, received: 0, errors: 0, text: String::new() };
        for _ in 0..count {
            let one = self.ping_with(to, format!("-c 1 -W 5 {options}").trim_end());
            all.sent += one.sent;
            all.received += one.received;
            all.errors += one.errors;
            all.text += &one.text;
        }
        all
    }

    /// Three pings that are longer than the road may be: a host that is told so (PROTOCOL §11.4) cuts them from then on, and is asked again.
    #[track_caller]
    pub fn ping_long(&self, to: IpAddr, size: usize) -> Ping {
        let options = format!("-s {size}");
        let first = self.ping_patiently(to, 3, &options);
        if first.errors > 0 { self.ping_patiently(to, 3, &options) } else { first }
    }

    /// Five pings; the first may have to wait for a session.
    #[track_caller]
    pub fn ping(&self, to: IpAddr) -> Ping {
        self.ping_patiently(to, 5, "")
    }

    /// Whether one ping is answered within a second.
    pub fn reaches(&self, to: IpAddr) -> bool {
        self.ping_with(to, "-c 1 -W 1").received == 1
    }

    /// Pings ten times a second, so many times, beside everything else.
    pub fn ping_on(&self, to: IpAddr, count: u32) -> RunningPing {
        let options = format!("-c {count} -i 0.1 -W 1");
        RunningPing(Some(self.ping_command(to, &options).spawn().expect("ping")))
    }

    /// Sends TCP to `to` for so long by iperf3; gives what arrived, in bits a second.
    #[track_caller]
    pub fn tcp_throughput(&self, to: &Self, time: Duration) -> f64 {
        let mut server = to.host.command("iperf3");
        server.args(["-s", "-1"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Some(server.spawn().expect("iperf3"));
        let listening = becomes_true(seconds(10), || to.host.run("ss -Hltn sport = :5201").contains("5201"));
        assert!(listening, "iperf3 does not listen");
        let mut client = self.host.command("iperf3");
        client.args(["-J", "-t", &time.as_secs().to_string(), "-c", &to.v4().to_string()]);
        let output = client.output().expect("iperf3");
        end(server.take());
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_else(|| panic!("iperf3 said: {text}"))
    }
}
