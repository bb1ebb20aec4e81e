//! `ping`: the round trip to a peer, on the path that its packets take.

use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::show::{print, socket_of};
use super::table::{Milliseconds, printable};
use super::{Exit, Failure};
use crate::control::client;
use crate::control::message::{Hop, PeerState, Pong, VERSION};

/// How often, and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) count: u32,
    pub(super) interval: Duration,
}

/// All pings together.
#[derive(Debug, Serialize)]
struct Summary {
    version: u32,
    peer: String,
    sent: usize,
    received: usize,
    min_ms: Option<f64>,
    mean_ms: Option<f64>,
    max_ms: Option<f64>,
    pings: Vec<Pong>,
}

/// Has the daemon ping `peer`, and prints each answer as it comes. It has failed if there was none at all.
pub(super) fn ping(
    socket: Option<&Path>,
    peer: &str,
    pace: Pace,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let socket = socket_of(socket)?;
    let mut pings = Vec::new();
    for number in 1..=pace.count {
        if number > 1 {
            thread::sleep(pace.interval);
        }
        let pong = client::ping(&socket, peer, number)?;
        if !json {
            output.write_all(printable(line(&pong)).as_bytes())?;
            output.flush()?;
        }
        pings.push(pong);
    }
    let summary = Summary::of(peer, pings);
    print(&summary, json, |summary| printable(summary.in_words()), output)?;
    if summary.received == 0 {
        return Err(Failure::new(Exit::Failed, format!("{} does not answer", summary.peer)));
    }
    Ok(())
}

/// `b: 1.3 ms, direct to 198.51.100.7:18502`
fn line(pong: &Pong) -> String {
    let peer = &pong.peer;
    match (pong.rtt_ms.map(Milliseconds), &pong.hop) {
        (Some(rtt), Some(Hop::Direct(address))) => format!("{peer}: {rtt}, direct to {address}\n"),
        (Some(rtt), Some(Hop::Relay(relay))) => format!("{peer}: {rtt}, through relay {relay}\n"),
        (Some(rtt), None) => format!("{peer}: {rtt}\n"),
        (None, _) => {
            let state = match pong.state {
                PeerState::Idle => "; there is no session",
                PeerState::Connecting => "; there is no session yet, an attempt is under way",
                PeerState::Connected => ", though there is a session",
            };
            format!("{peer}: no answer within 2 s{state}\n")
        }
    }
}

impl Summary {
    fn of(asked: &str, pings: Vec<Pong>) -> Self {
        let times: Vec<f64> = pings.iter().filter_map(|pong| pong.rtt_ms).collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        Self {
            version: VERSION,
            peer: pings.first().map_or(asked, |pong| &pong.peer[..]).to_owned(),
            sent: pings.len(),
            received: times.len(),
            min_ms: times.iter().copied().reduce(f64::min),
            mean_ms: (!times.is_empty()).then_some(mean),
            max_ms: times.iter().copied().reduce(f64::max),
            pings,
        }
    }

    fn in_words(&self) -> String {
        let mut text = format!("{} sent, {} answered", self.sent, self.received);
        if let (Some(min), Some(mean), Some(max)) = (self.min_ms, self.mean_ms, self.max_ms) {
            text += &format!(
                "; shortest {}, mean {}, longest {}",
                Milliseconds(min),
                Milliseconds(mean),
                Milliseconds(max)
            );
        }
        text + "\n"
    }
}
