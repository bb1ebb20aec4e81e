//! What is wrong with a configuration, and where.

use std::fmt;

/// Longer values are cut in messages.
const SHOWN: usize = 60;

/// A refusal: one line that names file, line, key, value and what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    line: Option<usize>,
    key: Option<String>,
    value: Option<String>,
    problem: String,
}

impl ConfigError {
    /// A fault of the file as a whole.
    pub(super) fn of_file(file: &str, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, key: None, value: None, problem: problem.into() }
    }

    /// A fault at a line, counted from 1.
    pub(super) fn at(mut self, line: Option<usize>) -> Self {
        self.line = line;
        self
    }

    /// The key concerned, in words: `interface.mtu`, `peer "b": prefixes`.
    pub(super) fn key_is(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The value concerned, as it stands in the file.
    pub(super) fn value_is(mut self, value: &str) -> Self {
        self.value = Some(shortened(value));
        self
    }

    /// The line of the file, from 1, where it can be told.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// `value` on one line and not too long: it may come from any file.
fn shortened(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if value.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}
