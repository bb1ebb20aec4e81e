//! Where log lines go: standard error, in the form that its reader expects.

use std::env::{self, VarError};
use std::fmt;
use std::io;

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::args::LOG_VARIABLE;

/// Starts logging, at the level of `verbose` if it is not 0, else as the environment says, else from INFO on.
///
/// # Errors
/// The environment says something unintelligible.
pub(super) fn start(verbose: u8) -> Result<(), String> {
    let directives = match (verbose, env::var(LOG_VARIABLE)) {
        (0, Ok(directives)) => directives,
        (0, Err(VarError::NotPresent)) => "info".to_owned(),
        (0, Err(VarError::NotUnicode(_))) => return Err(format!("{LOG_VARIABLE} is not UTF-8 text")),
        (1, _) => "info,handfast=debug".to_owned(),
        (_, _) => "info,handfast=trace".to_owned(),
    };
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        format!("{LOG_VARIABLE} = {directives:?}: {error}; accepted: a level such as debug, or MODULE=LEVEL pairs")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    let started =
        if is_journal() { builder.event_format(Journal).try_init() } else { builder.with_target(false).try_init() };
    started.map_err(|error| error.to_string())
}

/// Makes an error of the command line an error of the journal, where that reads standard error.
pub(super) fn journal_prefix() -> &'static str {
    if is_journal() { "<3>" } else { "" }
}

/// systemd names the device and inode of the journal's stream; standard error may since have been sent elsewhere.
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Lines for the journal: it has the time itself, and takes the priority from the front of the line (sd-daemon(3)).
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        let line = format::format().without_time().with_level(false).with_target(false);
        line.format_event(context, writer, event)
    }
}

/// Of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
