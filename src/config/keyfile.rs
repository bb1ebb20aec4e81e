//! The file that holds the identity: one line of base64, 44 characters, readable by its owner alone.
//!
//! Nothing else may stand in it, no comment and no second line, so that a damaged or mistaken file never passes for a key.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use nix::libc::O_NONBLOCK;
use nix::unistd::geteuid;
use zeroize::{Zeroize as _, Zeroizing};

use super::key;
use crate::crypto::keys::IdentitySecret;
use crate::crypto::secret::Secret;

/// Room for a key line and enough more to see that there is more.
const BUFFER: usize = key::LENGTH + 4;
const ROOT: u32 = 0;

/// Why a key file was not read or written. The text goes behind the name of the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there.
    #[error("there is no such file; make a key with `handfast keygen --out FILE`")]
    Missing,
    /// This user may not read it. The usual case is a key that root has put into the state directory of the service.
    #[error(
        "cannot be read by user {own}, who runs handfast; chown it to that user (or `chown --reference=DIRECTORY FILE`)"
    )]
    Denied {
        /// Effective user of this process.
        own: u32,
    },
    /// The system refused.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// A directory, a pipe, a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Somebody else could have chosen the key.
    #[error("belongs to user {owner}, not to root or to the user that runs handfast (user {own}); chown it")]
    Owner {
        /// Owner of the file.
        owner: u32,
        /// Effective user of this process.
        own: u32,
    },
    /// Somebody else could have read the key.
    #[error(
        "is open to others (mode {mode:04o}); accepted: 0600 or 0400; `chmod 600` it, and make a new key if others may have read it"
    )]
    Mode {
        /// Permission bits.
        mode: u32,
    },
    /// Something else stands in it.
    #[error("does not hold a key: accepted is one line of 44 characters of base64, as `handfast keygen` writes it")]
    Content,
    /// It is there already.
    #[error("exists already and is not overwritten; move it away first if this node is to become another")]
    Exists,
    /// The system refused.
    #[error("cannot be written: {0}")]
    Write(io::Error),
}

/// Writes the key to a new file of mode 0600, and to the disk. A missing directory is made, with mode 0700.
///
/// If root writes into a directory of another user, the file gets the owner of the directory: systemd hands its state directory to the (dynamic)
/// user of a service once, and that user must be able to read a key that is made later.
///
/// # Errors
/// An existing file is never overwritten; after any other failure no file is left.
pub fn create(path: &Path, identity: &IdentitySecret) -> Result<(), KeyFileError> {
    let directory = directory_of(path);
    if !directory.exists() {
        DirBuilder::new().mode(0o700).create(directory).map_err(KeyFileError::Write)?;
    }
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = opened.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists { KeyFileError::Exists } else { KeyFileError::Write(error) }
    })?;
    let written = fill(&file, directory, identity);
    if written.is_err() {
        // The name is ours alone (O_EXCL), and half a key helps nobody; the first error is the one to report.
        let _ = fs::remove_file(path);
    }
    written.map_err(KeyFileError::Write)
}

/// The line that stands in a key file, with its newline. It is the secret.
pub fn encode(identity: &IdentitySecret) -> Zeroizing<String> {
    let mut line = Zeroizing::new(String::with_capacity(key::LENGTH + 1));
    let mut buffer = Zeroizing::new([0; key::LENGTH]);
    if let Ok(text) = Base64::encode(identity.seed().expose(), buffer.as_mut_slice()) {
        line.push_str(text);
    }
    line.push('\n');
    line
}

/// Reads a key file after checking that nobody else could have read or chosen it.
///
/// It must be a regular file without permissions for others. Its owner is root or the user that runs this process; root also accepts the owner of
/// the directory. A credential of systemd (root's file, mode 0440 because of its access list) is accepted.
///
/// # Errors
/// Whatever is wrong with the file; a key never comes from a file that holds anything else.
pub fn read(path: &Path) -> Result<IdentitySecret, KeyFileError> {
    // Without O_NONBLOCK a pipe in the place of the file would keep us waiting.
    let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
    let file = opened.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            KeyFileError::Missing
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            KeyFileError::Denied { own: geteuid().as_raw() }
        } else {
            KeyFileError::Read(error)
        }
    })?;
    check(&file.metadata().map_err(KeyFileError::Read)?, path)?;
    read_from(file)
}

/// Reads a key line from anything, without a look at permissions.
///
/// # Errors
/// What was read is not a key, or could not be read.
pub fn read_from(input: impl io::Read) -> Result<IdentitySecret, KeyFileError> {
    let mut buffer = Zeroizing::new([0; BUFFER]);
    let mut length = 0;
    let mut input = input.take(BUFFER as u64);
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(KeyFileError::Read(error)),
        }
    }
    let text = buffer.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(KeyFileError::Content)?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let mut decoded = Ok(());
    let seed = Secret::fill(|bytes| {
        decoded = key::decode(line, bytes);
        if decoded.is_err() {
            bytes.zeroize();
        }
    });
    decoded.map_err(|_| KeyFileError::Content)?;
    Ok(IdentitySecret::from_seed(seed))
}

fn fill(mut file: &File, directory: &Path, identity: &IdentitySecret) -> io::Result<()> {
    let home = fs::metadata(directory)?;
    if geteuid().is_root() && home.uid() != ROOT {
        fchown(file, Some(home.uid()), Some(home.gid()))?;
    }
    file.write_all(encode(identity).as_bytes())?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

fn check(metadata: &Metadata, path: &Path) -> Result<(), KeyFileError> {
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile);
    }
    let own = geteuid().as_raw();
    let owner = metadata.uid();
    if owner != ROOT && owner != own && !(own == ROOT && owns_directory(owner, path)) {
        return Err(KeyFileError::Owner { owner, own });
    }
    let mode = metadata.mode() & 0o7777;
    let is_credential = owner == ROOT && metadata.gid() == ROOT && mode == 0o440;
    if mode & 0o077 != 0 && !is_credential {
        return Err(KeyFileError::Mode { mode });
    }
    Ok(())
}

fn owns_directory(owner: u32, path: &Path) -> bool {
    let resolved = fs::canonicalize(path);
    let directory = resolved.and_then(|resolved| fs::metadata(directory_of(&resolved)));
    directory.is_ok_and(|directory| directory.uid() == owner)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}
