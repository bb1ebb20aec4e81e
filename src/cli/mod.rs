//! Layer 8: the command line. Imports `control`, `config`, `crypto` and `daemon`.

pub mod args;
mod key;
mod log;
mod netcheck;
mod peers;
mod ping;
mod show;
mod table;
mod up;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::config::{Config, key as public_key};
use args::{Action, Arguments};

/// How the program ends; the numbers are documented and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// The configuration or the key file was refused.
    Refused = 3,
    /// No daemon is listening.
    NoDaemon = 4,
}

/// Standard streams, or what stands for them in a test.
pub struct Streams<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub output: &'a mut dyn Write,
    /// Standard error.
    pub error: &'a mut dyn Write,
}

/// Why a command did not do what was asked: an exit code and one line.
struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl ToString) -> Self {
        Self { exit, message: message.to_string() }
    }
}

/// Printing failed. Where nobody reads any more (`handfast status | head -1`), that is no fault.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Done } else { Exit::Failed };
        Self::new(exit, format!("cannot write the output: {error}"))
    }
}

/// Runs the program with the arguments and streams of the process.
pub fn main() -> ExitCode {
    let (mut input, mut output, mut error) = (io::stdin().lock(), io::stdout(), io::stderr());
    let streams = Streams { input: &mut input, output: &mut output, error: &mut error };
    ExitCode::from(run(std::env::args_os(), streams) as u8)
}

/// Runs one command. Whatever goes wrong is told in one line on `streams.error`.
pub fn run(arguments: impl IntoIterator<Item = OsString>, streams: Streams<'_>) -> Exit {
    let Streams { input, output, error } = streams;
    let result = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => act(arguments.action, input, output, error),
        Err(problem) => usage(&problem, output, error),
    };
    match result {
        Ok(()) => Exit::Done,
        Err(failure) if failure.exit == Exit::Done => Exit::Done,
        Err(failure) => {
            // Part of it may come from a socket, and must not get hold of the terminal.
            let line = failure.message.replace(char::is_control, " ");
            // Where standard error is closed there is nobody to tell; the exit code still says it.
            let _ = writeln!(error, "{}handfast: {line}", log::journal_prefix());
            failure.exit
        }
    }
}

fn act(action: Action, input: &mut dyn Read, output: &mut dyn Write, error: &mut dyn Write) -> Result<(), Failure> {
    match action {
        Action::Keygen { out: Some(path) } => key::make(&path, output),
        Action::Keygen { out: None } => key::print(output, error),
        Action::Pubkey { file } => key::public(&file, input, output),
        Action::Check { config } => check(&config, output),
        Action::Up { config, verbose } => up::up(&config, verbose),
        Action::Status { asked } => show::status(asked.socket.as_deref(), asked.json, output),
        Action::Peers { asked } => peers::peers(asked.socket.as_deref(), asked.json, output),
        Action::Ping { peer, count, interval, asked } => {
            ping::ping(asked.socket.as_deref(), &peer, ping::Pace { count, interval }, asked.json, output)
        }
        Action::Netcheck { asked } => netcheck::netcheck(asked.socket.as_deref(), asked.json, output),
        Action::Why { peer, asked } => netcheck::why(asked.socket.as_deref(), &peer, asked.json, output),
    }
}

fn check(path: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let (config, identity) = Config::load(path).map_err(|error| Failure::new(Exit::Refused, error))?;
    let peers = config.peers.len();
    let channels = config.channels.len();
    writeln!(
        output,
        "{}: good: interface {}, {peers} peer{}, {channels} reliable channel{}; public key {}",
        path.display(),
        config.interface.name,
        if peers == 1 { "" } else { "s" },
        if channels == 1 { "" } else { "s" },
        public_key::format_public(&identity.id()),
    )?;
    Ok(())
}

/// Help goes to the output; anything else becomes one line.
fn usage(problem: &clap::Error, output: &mut dyn Write, error: &mut dyn Write) -> Result<(), Failure> {
    let text = problem.render().to_string();
    if !problem.use_stderr() {
        return Ok(output.write_all(text.as_bytes())?);
    }
    if problem.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.write_all(text.as_bytes())?;
        return Err(Failure::new(Exit::Usage, "a command is missing"));
    }
    // The first paragraph says what is wrong, a tip (if any) what was meant; the usage that follows would hide both.
    let in_one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n").map(in_one_line);
    let first = paragraphs.next().unwrap_or_default();
    let what = first.strip_prefix("error: ").unwrap_or(&first);
    let tip = paragraphs.find_map(|paragraph| paragraph.strip_prefix("tip: ").map(|tip| format!("; {tip}")));
    Err(Failure::new(Exit::Usage, format!("{what}{}; try --help", tip.unwrap_or_default())))
}
