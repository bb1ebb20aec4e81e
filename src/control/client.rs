//! The caller's end of the control socket: blocking, with a limit to how long and how much.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::message::{Command, Netcheck, Pong, Reason, Refusal, Request, Response, Status, Why};
use crate::config::DEFAULT_INTERFACE;

/// For each step of a conversation.
const PATIENCE: Duration = Duration::from_secs(7);
/// The status of some ten thousand peers.
const MAX_ANSWER: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket, or nobody behind it.
    #[error("no daemon is listening at {}; is the service running?", .0.display())]
    NoDaemon(PathBuf),
    /// More than one could be meant.
    #[error("several daemons are running; choose one with --socket: {0}")]
    Several(String),
    /// The system or the daemon does not let this user ask.
    #[error("no permission to ask the daemon at {}; try again with sudo", .0.display())]
    Denied(PathBuf),
    /// It accepted the connection and said nothing.
    #[error("the daemon at {} does not answer", .0.display())]
    Silent(PathBuf),
    /// The conversation broke.
    #[error("cannot talk to the daemon at {}: {error}", .path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Something else listens there, or a daemon of another version.
    #[error("what listens at {} does not speak this version of the control protocol", .0.display())]
    Unintelligible(PathBuf),
    /// The daemon knows no such peer.
    #[error("{0}")]
    UnknownPeer(String),
    /// The daemon gave a reason.
    #[error("the daemon refuses: {}", .0.message)]
    Refused(Refusal),
}

/// Asks the daemon at `socket` for its status.
///
/// # Errors
/// There is no daemon, or it does not answer as it should within seconds.
pub fn status(socket: &Path) -> Result<Status, ClientError> {
    let Response::Status(status) = ask(socket, Command::Status)? else { return Err(unintelligible(socket)) };
    Ok(*status)
}

/// Asks the daemon at `socket` what the network is like.
///
/// # Errors
/// As [`status`].
pub fn netcheck(socket: &Path) -> Result<Netcheck, ClientError> {
    let Response::Netcheck(netcheck) = ask(socket, Command::Netcheck)? else { return Err(unintelligible(socket)) };
    Ok(*netcheck)
}

/// Has the daemon at `socket` ping a peer once. That there is no answer is an answer too.
///
/// # Errors
/// As [`status`]; and there is no such peer.
pub fn ping(socket: &Path, peer: &str, number: u32) -> Result<Pong, ClientError> {
    let command = Command::Ping { peer: peer.to_owned(), number };
    let Response::Pong(pong) = ask(socket, command)? else { return Err(unintelligible(socket)) };
    Ok(*pong)
}

/// Asks the daemon at `socket` why a peer is reached as it is, or is not.
///
/// # Errors
/// As [`status`]; and there is no such peer.
pub fn why(socket: &Path, peer: &str) -> Result<Why, ClientError> {
    let Response::Why(why) = ask(socket, Command::Why { peer: peer.to_owned() })? else {
        return Err(unintelligible(socket));
    };
    Ok(*why)
}

/// The socket that is meant if none is named: that of the default interface, or the only one in `directory`.
///
/// # Errors
/// There is none, or there are several.
pub fn find_socket(directory: &Path) -> Result<PathBuf, ClientError> {
    let default = directory.join(format!("{DEFAULT_INTERFACE}.sock"));
    if default.exists() {
        return Ok(default);
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(ClientError::Denied(directory.to_owned()));
        }
        Err(_) => return Err(ClientError::NoDaemon(default)),
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut sockets: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "sock")).collect();
    sockets.sort();
    match sockets.len() {
        0 | 1 => sockets.pop().ok_or(ClientError::NoDaemon(default)),
        _ => Err(ClientError::Several(
            sockets.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        )),
    }
}

/// What the daemon says; a refusal is an error.
fn ask(path: &Path, command: Command) -> Result<Response, ClientError> {
    let line = converse(path, &Request::new(command)).map_err(|error| explain(path, error))?;
    let response = serde_json::from_slice(&line).map_err(|_| unintelligible(path))?;
    if let Response::Error(refusal) = response {
        let unknown = refusal.reason == Reason::UnknownPeer;
        return Err(if unknown { ClientError::UnknownPeer(refusal.message) } else { ClientError::Refused(refusal) });
    }
    Ok(response)
}

fn unintelligible(path: &Path) -> ClientError {
    ClientError::Unintelligible(path.to_owned())
}

fn explain(path: &Path, error: io::Error) -> ClientError {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, TimedOut, WouldBlock};
    let kind = error.kind();
    if kind == NotFound || kind == ConnectionRefused {
        ClientError::NoDaemon(path.to_owned())
    } else if kind == PermissionDenied {
        ClientError::Denied(path.to_owned())
    } else if kind == WouldBlock || kind == TimedOut {
        // What the system says for a socket whose time is up.
        ClientError::Silent(path.to_owned())
    } else {
        ClientError::Broken { path: path.to_owned(), error }
    }
}

/// One line there, one line back.
fn converse(path: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let mut socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    match socket.write_all(&line) {
        // It may have answered before we asked: "too many connections".
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    let mut answer = Vec::new();
    BufReader::new(socket.take(MAX_ANSWER)).read_until(b'\n', &mut answer)?;
    Ok(answer)
}
