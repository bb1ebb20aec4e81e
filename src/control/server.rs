//! The daemon's end of the control socket: who may ask, how much, and for how long.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use serde::Deserialize;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::message::{Command, Reason, Refusal, Request, Response, VERSION};

/// A request is far shorter.
const MAX_LINE: usize = 4096;
/// Connections served at once; one more is told so and closed.
const MAX_CONNECTIONS: usize = 16;
/// A connection that asks nothing for so long, or does not take its answer, is closed.
const IDLE: Duration = Duration::from_secs(10);
/// The daemon answers at once, or is not well.
const ANSWER: Duration = Duration::from_secs(5);
/// Before the next try when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The control socket, bound. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket file: a file that another process has put in its place is not removed.
    file: (u64, u64),
    group: u32,
}

/// Why there is no control socket. The text goes behind its path.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error("another daemon is listening there; stop it, or give this one another socket")]
    InUse,
    /// Something that is no socket stands there.
    #[error("exists and is not a socket; move it away")]
    NotASocket,
    /// The system refused.
    #[error("cannot be made: {0}")]
    System(#[from] io::Error),
}

impl ControlListener {
    /// Binds the socket with mode 0660. A missing directory is made, with mode 0750; the socket of a daemon that has died is replaced.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A living daemon's socket and any other file are left alone.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            DirBuilder::new().mode(0o750).create(directory)?;
        }
        clear(path)?;
        let listener = UnixListener::bind(path)?;
        let made = fs::set_permissions(path, Permissions::from_mode(0o660)).and_then(|()| fs::symlink_metadata(path));
        match made {
            Ok(metadata) => Ok(Self {
                listener,
                path: path.to_owned(),
                file: (metadata.dev(), metadata.ino()),
                group: metadata.gid(),
            }),
            Err(error) => {
                let _ = fs::remove_file(path);
                Err(error.into())
            }
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mode of the file keeps strangers out; this holds even where someone has changed the mode.
    fn admits(&self, caller: &UCred) -> bool {
        caller.uid() == 0 || caller.uid() == geteuid().as_raw() || caller.gid() == self.group
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Serves callers until it is dropped; with it end all connections, and the socket file goes.
///
/// Every request is handed to `handler` with the place for its answer. Callers are root, the user of this process, and whoever has the group of the
/// socket as primary group.
pub async fn serve(listener: ControlListener, handler: mpsc::Sender<(Request, oneshot::Sender<Response>)>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let admitted = stream.peer_cred().is_ok_and(|caller| listener.admits(&caller));
        let refusal = if !admitted {
            Some(refuse(Reason::Denied, "only root, the user of the daemon and the group of the socket may ask"))
        } else if connections.len() >= MAX_CONNECTIONS {
            Some(refuse(Reason::Busy, "too many connections to the control socket"))
        } else {
            None
        };
        match refusal {
            Some(refusal) => turn_away(stream, &refusal),
            None => drop(connections.spawn(converse(stream, handler.clone()))),
        }
    }
}

/// Writes one line without waiting (it fits the buffer of a new socket) and closes.
fn turn_away(stream: UnixStream, refusal: &Response) {
    let written = stream.into_std().and_then(|mut stream| stream.write(&encode(refusal)));
    if let Err(error) = written {
        tracing::debug!(%error, "a caller of the control socket was turned away without a word");
    }
}

/// Answers one caller until it goes, falls silent, or writes what cannot be read.
async fn converse(mut stream: UnixStream, handler: mpsc::Sender<(Request, oneshot::Sender<Response>)>) {
    let (input, mut output) = stream.split();
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = timeout(IDLE, (&mut input).take(MAX_LINE as u64).read_until(b'\n', &mut line)).await;
        let Ok(Ok(1..)) = read else { return };
        let complete = line.last() == Some(&b'\n');
        let response = match parse(&line) {
            _ if !complete => refuse(Reason::BadRequest, "a request is one line of at most 4096 bytes"),
            Ok(request) => ask(request, &handler).await,
            Err(refusal) => refusal,
        };
        let Ok(Ok(())) = timeout(IDLE, output.write_all(&encode(&response))).await else { return };
        if !complete {
            return;
        }
    }
}

async fn ask(request: Request, handler: &mpsc::Sender<(Request, oneshot::Sender<Response>)>) -> Response {
    let (sender, answer) = oneshot::channel();
    let answered = timeout(ANSWER, async {
        handler.send((request, sender)).await.ok()?;
        answer.await.ok()
    });
    match answered.await {
        Ok(Some(response)) => response,
        Ok(None) => refuse(Reason::Busy, "the daemon is stopping"),
        Err(_) => refuse(Reason::Busy, "the daemon did not answer in time"),
    }
}

/// The version is looked at before the command, so that a newer client is told what is the matter.
fn parse(line: &[u8]) -> Result<Request, Response> {
    #[derive(Deserialize)]
    struct Envelope {
        version: u32,
        command: serde_json::Value,
    }
    let envelope: Envelope = serde_json::from_slice(line)
        .map_err(|_| refuse(Reason::BadRequest, "a request is a JSON object with `version` and `command`"))?;
    if envelope.version != VERSION {
        return Err(refuse(
            Reason::Unsupported,
            format!("this daemon speaks version {VERSION} of the control protocol"),
        ));
    }
    let command: Command = serde_json::from_value(envelope.command)
        .map_err(|_| refuse(Reason::Unsupported, "this daemon does not know that command"))?;
    Ok(Request { version: envelope.version, command })
}

fn refuse(reason: Reason, message: impl Into<String>) -> Response {
    Response::Error(Refusal { reason, message: message.into() })
}

fn encode(response: &Response) -> Vec<u8> {
    let mut line = serde_json::to_vec(response).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Removes a socket on which nobody listens.
fn clear(path: &Path) -> Result<(), BindError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket);
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A daemon that does not accept is alive all the same: connecting would wait for it.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
        Ok(()) | Err(_) => Err(BindError::InUse),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::thread;

    use tempfile::TempDir;

    use super::*;
    use crate::control::client;
    use crate::control::client::ClientError;
    use crate::control::message::{InterfaceStatus, Status};

    fn status() -> Status {
        Status {
            version: VERSION,
            daemon_version: "0.0.0".to_owned(),
            interface: InterfaceStatus {
                name: "hf7".to_owned(),
                addresses: vec!["10.0.0.1/24".parse().unwrap()],
                mtu: 1280,
            },
            public_key: String::new(),
            port: 18502,
            uptime_seconds: 1.5,
            peers: Vec::new(),
            drops: BTreeMap::from([("no_route".to_owned(), 3)]),
            counters: BTreeMap::new(),
        }
    }

    /// A daemon that answers every request, and `clients`, which talks to it from a thread of its own.
    fn with_daemon<T: Send + 'static>(clients: impl FnOnce(&Path) -> T + Send + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("run/hf0.sock");
            let listener = ControlListener::bind(&path).unwrap();
            let (sender, mut requests) = mpsc::channel::<(Request, oneshot::Sender<Response>)>(4);
            let talk = tokio::task::spawn_blocking(move || clients(&path));
            let answers = async {
                while let Some((_, answer)) = requests.recv().await {
                    drop(answer.send(Response::Status(Box::new(status()))));
                }
            };
            tokio::select! {
                result = talk => result.unwrap(),
                () = serve(listener, sender) => panic!("the server ended"),
                () = answers => panic!("the server hung up"),
            }
        })
    }

    /// What comes back for `bytes` until the daemon closes or has answered with a line.
    fn raw(path: &Path, bytes: &[u8]) -> String {
        use std::io::{BufRead as _, BufReader};
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        stream.write_all(bytes).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn a_client_gets_the_status() {
        assert_eq!(with_daemon(client::status).unwrap(), status());
    }

    #[test]
    fn a_connection_may_ask_several_times() {
        let lines = with_daemon(|path| {
            use std::io::{BufRead as _, BufReader};
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            let line = serde_json::to_string(&Request::new(Command::Status)).unwrap() + "\n";
            stream.write_all(line.repeat(3).as_bytes()).unwrap();
            BufReader::new(stream).lines().take(3).collect::<Result<Vec<_>, _>>().unwrap()
        });
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.starts_with(r#"{"status":"#)), "{lines:?}");
    }

    #[test]
    fn what_is_no_request_is_answered_with_the_reason() {
        let (noise, version, command, long) = with_daemon(|path| {
            (
                raw(path, b"GET / HTTP/1.1\r\n"),
                raw(path, b"{\"version\":9,\"command\":\"dance\"}\n"),
                raw(path, b"{\"version\":1,\"command\":\"dance\"}\n"),
                raw(path, &[b'['; MAX_LINE]),
            )
        });
        assert!(noise.contains(r#""reason":"bad_request""#), "{noise}");
        assert!(version.contains(r#""reason":"unsupported""#) && version.contains("version 1"), "{version}");
        assert!(command.contains(r#""reason":"unsupported""#), "{command}");
        assert!(long.contains("one line of at most 4096 bytes"), "{long}");
    }

    #[test]
    fn one_connection_too_many_is_told_so() {
        let refused = with_daemon(|path| {
            let held: Vec<_> =
                (0..MAX_CONNECTIONS).map(|_| std::os::unix::net::UnixStream::connect(path).unwrap()).collect();
            let refused = client::status(path);
            drop(held);
            refused
        });
        assert!(matches!(refused, Err(ClientError::Refused(refusal)) if refusal.reason == Reason::Busy));
    }

    #[test]
    fn the_socket_has_tight_modes_and_goes_with_its_listener() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("run/hf0.sock");
        let listener = ControlListener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7027, 0);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_living_daemon_is_left_alone_and_a_dead_ones_socket_is_replaced() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("hf0.sock");
        let dead = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(ControlListener::bind(&path), Err(BindError::InUse)));
        drop(dead);
        let living = ControlListener::bind(&path).unwrap();
        assert!(matches!(ControlListener::bind(&path), Err(BindError::InUse)));
        drop(living);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(ControlListener::bind(&path), Err(BindError::NotASocket)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_listener_does_not_remove_the_socket_of_its_successor() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("hf0.sock");
        let first = ControlListener::bind(&path).unwrap();
        fs::rename(&path, directory.path().join("aside")).unwrap();
        let second = ControlListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
    }

    #[test]
    fn the_only_socket_is_found_and_several_are_listed() {
        let directory = TempDir::new().unwrap();
        assert!(matches!(client::find_socket(directory.path()), Err(ClientError::NoDaemon(_))));
        fs::write(directory.path().join("hf3.sock"), "").unwrap();
        assert_eq!(client::find_socket(directory.path()).unwrap(), directory.path().join("hf3.sock"));
        fs::write(directory.path().join("hf4.sock"), "").unwrap();
        let several = client::find_socket(directory.path()).unwrap_err().to_string();
        assert!(several.contains("hf3.sock") && several.contains("hf4.sock"), "{several}");
        fs::write(directory.path().join("hf0.sock"), "").unwrap();
        assert_eq!(client::find_socket(directory.path()).unwrap(), directory.path().join("hf0.sock"));
    }

    #[test]
    fn a_daemon_that_is_not_there_is_named() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("hf0.sock");
        let nobody = client::status(&path).unwrap_err().to_string();
        assert_eq!(nobody, format!("no daemon is listening at {}; is the service running?", path.display()));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(client::status(&path), Err(ClientError::NoDaemon(_))));
    }

    #[test]
    fn something_else_behind_the_socket_is_recognised() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("hf0.sock");
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let chat = thread::spawn(move || other.accept().unwrap().0.write_all(b"220 mail.example.org\n"));
        assert!(matches!(client::status(&path), Err(ClientError::Unintelligible(_))));
        chat.join().unwrap().unwrap();
    }
}
