//! How numbers and rows are written for people.

use std::fmt::{self, Write as _};

/// A column: its heading, and whether it is flush right.
pub(super) type Column = (&'static str, bool);

/// Appends the rows under their headings, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(text: &mut String, columns: &[Column; N], rows: &[[String; N]]) {
    let headings = columns.map(|(heading, _)| heading.to_owned());
    let lines = || std::iter::once(&headings).chain(rows);
    let mut widths = [0; N];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in lines() {
        let mut built = String::new();
        for ((cell, width), (_, flush_right)) in line.iter().zip(widths).zip(columns) {
            // Writing to a string cannot fail.
            let _ = if *flush_right { write!(built, "{cell:>width$}  ") } else { write!(built, "{cell:<width$}  ") };
        }
        text.push_str(built.trim_end());
        text.push('\n');
    }
}

/// Takes out what could get hold of the terminal: anyone may listen at a socket that the user named.
pub(super) fn printable(mut text: String) -> String {
    text.retain(|c| c == '\n' || !c.is_control());
    text
}

pub(super) fn or_dash(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `310.5 MiB`
pub(super) struct Bytes(pub(super) u64);

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
pub(super) struct Age(pub(super) f64);

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
pub(super) struct Milliseconds(pub(super) f64);

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
