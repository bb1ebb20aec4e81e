//! `status`: what the daemon says, as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::path::Path;

use super::{Exit, Failure};
use crate::config::RUNTIME_DIRECTORY;
use crate::control::client::{self, ClientError};
use crate::control::message::{PeerState, PeerStatus, Status};

/// Columns of the table of peers; `true` is flush right.
const COLUMNS: [(&str, bool); 9] = [
    ("PEER", false),
    ("STATE", false),
    ("ENDPOINT", false),
    ("RTT", true),
    ("SESSION", true),
    ("HEARD", true),
    ("RECEIVED", true),
    ("SENT", true),
    ("CIPHER", false),
];

/// Prints the status of the daemon behind `socket`, or of the one that is found.
pub(super) fn status(socket: Option<&Path>, json: bool, output: &mut dyn Write) -> Result<(), Failure> {
    let asked = match socket {
        Some(path) => client::status(path),
        None => client::find_socket(Path::new(RUNTIME_DIRECTORY)).and_then(|path| client::status(&path)),
    };
    let status = asked.map_err(|error| Failure::new(exit_of(&error), error))?;
    let text = if json {
        serde_json::to_string_pretty(&status).map_err(|error| Failure::new(Exit::Failed, error))? + "\n"
    } else {
        render(&status)
    };
    output.write_all(text.as_bytes())?;
    output.flush()?;
    Ok(())
}

fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::NoDaemon(_) => Exit::NoDaemon,
        ClientError::Several(_)
        | ClientError::Denied(_)
        | ClientError::Silent(_)
        | ClientError::Broken { .. }
        | ClientError::Unintelligible(_)
        | ClientError::Refused(_) => Exit::Failed,
    }
}

/// The table that a person reads.
fn render(status: &Status) -> String {
    let addresses: Vec<String> = status.interface.addresses.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{}   {}   MTU {}   UDP port {}   up {}\nkey   {}\n\n",
        status.interface.name,
        addresses.join(", "),
        status.interface.mtu,
        status.port,
        Age(status.uptime_seconds),
        status.public_key
    );
    if status.peers.is_empty() {
        text.push_str("No peers are configured.\n");
    } else {
        let rows: Vec<_> = status.peers.iter().map(row).collect();
        table(&mut text, &rows);
    }
    let mut notes = Vec::new();
    for peer in &status.peers {
        let queued = Bytes(peer.reliable.queued_bytes);
        let again = peer.reliable.retransmissions;
        if queued.0 > 0 || again > 0 {
            notes.push(format!("{}: reliable channels: {queued} waiting, {again} sent again", peer.name));
        }
        notes.extend(dropped(&peer.name, &peer.drops));
    }
    notes.extend(dropped("this node", &status.drops));
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        text.push_str(&note);
        text.push('\n');
    }
    // Whoever listens at the socket must not get hold of the terminal.
    text.retain(|c| c == '\n' || !c.is_control());
    text
}

fn row(peer: &PeerStatus) -> [String; COLUMNS.len()] {
    let state = match peer.state {
        PeerState::Idle => "idle",
        PeerState::Connecting => "connecting",
        PeerState::Connected => "connected",
    };
    let cipher = match (&peer.cipher, peer.post_quantum) {
        (Some(cipher), true) => format!("{cipher}, post-quantum"),
        (Some(cipher), false) => format!("{cipher}, NOT post-quantum"),
        (None, _) => "-".to_owned(),
    };
    [
        peer.name.clone(),
        state.to_owned(),
        or_dash(peer.endpoint),
        or_dash(peer.rtt_ms.map(Milliseconds)),
        or_dash(peer.session_age_seconds.map(Age)),
        peer.last_received_seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{} ago", Age(seconds))),
        Bytes(peer.rx_bytes).to_string(),
        Bytes(peer.tx_bytes).to_string(),
        cipher,
    ]
}

fn or_dash(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn dropped(whose: &str, drops: &BTreeMap<String, u64>) -> Option<String> {
    let reasons: Vec<String> =
        drops.iter().filter(|(_, count)| **count > 0).map(|(why, n)| format!("{n} {why}")).collect();
    (!reasons.is_empty()).then(|| format!("{whose}: dropped: {}", reasons.join(", ")))
}

/// Appends the rows under their headings, each column as wide as its widest cell.
fn table(text: &mut String, rows: &[[String; COLUMNS.len()]]) {
    let headings = COLUMNS.map(|(heading, _)| heading.to_owned());
    let lines = || std::iter::once(&headings).chain(rows);
    let mut widths = [0; COLUMNS.len()];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in lines() {
        let mut built = String::new();
        for ((cell, width), (_, flush_right)) in line.iter().zip(widths).zip(COLUMNS) {
            // Writing to a string cannot fail.
            let _ = if flush_right { write!(built, "{cell:>width$}  ") } else { write!(built, "{cell:<width$}  ") };
        }
        text.push_str(built.trim_end());
        text.push('\n');
    }
}

/// `310.5 MiB`
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut amount = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // 1023.95 would be written as 1024.0.
        while amount >= 1023.95 && unit + 1 < units.len() {
            amount /= 1024.0;
            unit += 1;
        }
        write!(f, "{amount:.1} {}", units.get(unit).copied().unwrap_or_default())
    }
}

/// `4 s`, `3 min 20 s`, `2 h 5 min`, `12 d 4 h`
struct Age(f64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0) as u64;
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, _, _) => write!(f, "{hours} h {} min", minutes % 60),
            (_, _, _) => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

/// `0.32 ms`, `12.3 ms`, `250 ms`
struct Milliseconds(f64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.0 < 1.0 {
            2
        } else if self.0 < 100.0 {
            1
        } else {
            0
        };
        write!(f, "{:.decimals$} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short_and_have_a_unit() {
        let written = |bytes| Bytes(bytes).to_string();
        assert_eq!(written(0), "0 B");
        assert_eq!(written(1023), "1023 B");
        assert_eq!(written(1024), "1.0 KiB");
        assert_eq!(written((1 << 20) - 1), "1.0 MiB");
        assert_eq!(written(325_685_248), "310.6 MiB");
        assert_eq!(written(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn ages_have_two_units_at_most() {
        let written = |seconds| Age(seconds).to_string();
        assert_eq!(written(-1.0), "0 s");
        assert_eq!(written(59.9), "59 s");
        assert_eq!(written(200.0), "3 min 20 s");
        assert_eq!(written(7500.0), "2 h 5 min");
        assert_eq!(written(1_051_200.0), "12 d 4 h");
    }

    #[test]
    fn round_trips_have_as_many_digits_as_mean_something() {
        let written = |ms| Milliseconds(ms).to_string();
        assert_eq!(written(0.321), "0.32 ms");
        assert_eq!(written(12.34), "12.3 ms");
        assert_eq!(written(250.4), "250 ms");
    }
}
