//! What may be written on the command line, and the help that teaches it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

/// The environment variable that says what is logged.
pub const LOG_VARIABLE: &str = "HANDFAST_LOG";

const AFTER: &str = "\
Two machines in five steps (the files are explained in handfast.toml(5)):
  1. on both:  sudo handfast keygen --out /var/lib/handfast/identity.key
  2. on both:  write /etc/handfast/handfast.toml with the other's public key
  3. on both:  sudo handfast check /etc/handfast/handfast.toml
  4. on both:  sudo systemctl enable --now handfast
  5. on one:   ping 10.77.0.2, and then: sudo handfast status

What goes where, and why:  handfast peers, ping, netcheck, why

Exit codes:
  0  done
  1  failed; one line on standard error says why
  2  wrong usage
  3  the configuration or the key file was refused; nothing was touched
  4  no daemon is listening";

const KEYGEN_AFTER: &str = "\
Examples:
  sudo handfast keygen --out /var/lib/handfast/identity.key
      makes the identity of this node and prints its public key, which goes into
      the configuration of its peers
  handfast keygen > identity.key
      prints the private key on standard output and the public key on standard
      error (with `umask 077`, or the file is readable by others and refused)";

const PUBKEY_AFTER: &str = "\
Examples:
  sudo handfast pubkey /var/lib/handfast/identity.key
  handfast keygen | handfast pubkey -";

const CHECK_AFTER: &str = "\
Example:
  sudo handfast check /etc/handfast/handfast.toml && sudo systemctl restart handfast

The first fault is reported with file, line, key and value, and what would be
accepted. The key file is checked too, so run it as a user who may read it.";

const UP_AFTER: &str = "\
Examples:
  sudo handfast up --config /etc/handfast/handfast.toml
  sudo HANDFAST_LOG=handfast::proto=trace handfast up --config lab.toml

The daemon stays in the foreground. SIGINT (Ctrl-C) and SIGTERM end it and remove
interface, routes and control socket. It needs CAP_NET_ADMIN, and /dev/net/tun.";

const STATUS_AFTER: &str = "\
Examples:
  sudo handfast status
  sudo handfast status --json | jq '.peers[] | {name, state, rtt_ms}'

Without --socket it asks /run/handfast/hf0.sock, or else the only socket in
/run/handfast. The fields of --json are stable: later versions only add some.";

const PEERS_AFTER: &str = "\
Examples:
  sudo handfast peers
  sudo handfast peers --json | jq '.peers[] | {name, paths, known_by}'

PATH is the address that packets go to, or the member that relays them; KIND says
how the address came to be known; KNOWN BY are the members that say they have a
session with the peer.";

const PING_AFTER: &str = "\
Examples:
  sudo handfast ping b
  sudo handfast ping 10.77.0.2 --count 1 --json

PEER is the name in the configuration, an overlay address, or the beginning of the
public key (four characters or more). The ping travels inside the session, so it
needs no permission of the peer's firewall. Exit code 1: no ping was answered.";

const NETCHECK_AFTER: &str = "\
Examples:
  sudo handfast netcheck
  sudo handfast netcheck --json | jq .advice

Other members tell this node where they see it; what two of them say shows what
kind of NAT is in between. Nobody else is asked.";

const WHY_AFTER: &str = "\
Examples:
  sudo handfast why b
  sudo handfast why b --json | jq -r '.steps[] | \"\\(.seconds_ago) \\(.text)\"'

PEER is the name in the configuration, an overlay address, or the beginning of the
public key (four characters or more).";

/// A serverless, post-quantum mesh VPN: one encrypted network interface between your machines.
#[derive(Debug, Parser)]
#[command(name = "handfast", version, after_help = AFTER, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a new identity (a private key).
    #[command(after_help = KEYGEN_AFTER)]
    Keygen {
        /// Write it to this new file, readable by its owner alone, and print the public key; an existing file is never overwritten.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the public key that belongs to a private key.
    #[command(after_help = PUBKEY_AFTER)]
    Pubkey {
        /// The key file; `-` is standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check a configuration and the key file it names, and change nothing.
    #[command(after_help = CHECK_AFTER)]
    Check {
        /// The configuration, a TOML file: see handfast.toml(5).
        #[arg(value_name = "CONFIG")]
        config: PathBuf,
    },
    /// Run the daemon in the foreground.
    #[command(after_help = UP_AFTER)]
    Up {
        /// The configuration, a TOML file: see handfast.toml(5).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Log more: once for debug, twice for every packet; overrides HANDFAST_LOG.
        #[arg(long, short, action = ArgAction::Count)]
        verbose: u8,
    },
    /// Show what the running daemon does: peers, sessions, traffic, drops.
    #[command(after_help = STATUS_AFTER)]
    Status {
        /// How the daemon is asked.
        #[command(flatten)]
        asked: Asked,
    },
    /// Show by which path each peer is reached, and who else reaches it.
    #[command(after_help = PEERS_AFTER)]
    Peers {
        /// How the daemon is asked.
        #[command(flatten)]
        asked: Asked,
    },
    /// Measure the round trip to a peer, on the path that its packets take.
    #[command(after_help = PING_AFTER)]
    Ping {
        /// The peer: its name, an overlay address of it, or the beginning of its public key.
        #[arg(value_name = "PEER")]
        peer: String,
        /// How many pings.
        #[arg(long, short, value_name = "NUMBER", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        count: u32,
        /// Pause between an answer and the next ping, in seconds.
        #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = pause)]
        interval: Duration,
        /// How the daemon is asked.
        #[command(flatten)]
        asked: Asked,
    },
    /// Show what kind of NAT this node is behind, and what would improve it.
    #[command(after_help = NETCHECK_AFTER)]
    Netcheck {
        /// How the daemon is asked.
        #[command(flatten)]
        asked: Asked,
    },
    /// Explain why a peer is reached as it is, or is not.
    #[command(after_help = WHY_AFTER)]
    Why {
        /// The peer: its name, an overlay address of it, or the beginning of its public key.
        #[arg(value_name = "PEER")]
        peer: String,
        /// How the daemon is asked.
        #[command(flatten)]
        asked: Asked,
    },
}

/// How the daemon is asked, and its answer is printed.
#[derive(Clone, Debug, Args)]
pub struct Asked {
    /// Print one JSON object, for programs.
    #[arg(long)]
    pub json: bool,
    /// Ask the daemon behind this control socket.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// A pause in seconds.
fn pause(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "accepted: seconds from 0 to 3600, such as 0.2".to_owned())
}
