//! `keygen` and `pubkey`.

use std::io::{Read, Write};
use std::path::Path;

use super::{Exit, Failure};
use crate::config::key::format_public;
use crate::config::keyfile::{self, KeyFileError};
use crate::crypto::keys::IdentitySecret;
use crate::crypto::secret::Secret;

/// Writes a new identity to a new file and prints its public key.
pub(super) fn make(path: &Path, output: &mut dyn Write) -> Result<(), Failure> {
    let identity = generate()?;
    keyfile::create(path, &identity).map_err(|error| of_file(Exit::Failed, path, &error))?;
    writeln!(output, "{}", format_public(&identity.id()))?;
    Ok(())
}

/// Prints a new identity: the private key for a file or a pipe, the public key for the person.
pub(super) fn print(output: &mut dyn Write, error: &mut dyn Write) -> Result<(), Failure> {
    let identity = generate()?;
    output.write_all(keyfile::encode(&identity).as_bytes())?;
    output.flush()?;
    writeln!(error, "public key: {}", format_public(&identity.id()))?;
    Ok(())
}

/// Prints the public key of the identity in `path`.
pub(super) fn public(path: &Path, input: &mut dyn Read, output: &mut dyn Write) -> Result<(), Failure> {
    let identity = if path == Path::new("-") { keyfile::read_from(input) } else { keyfile::read(path) };
    let name = if path == Path::new("-") { Path::new("standard input") } else { path };
    let identity = identity.map_err(|error| of_file(Exit::Refused, name, &error))?;
    writeln!(output, "{}", format_public(&identity.id()))?;
    Ok(())
}

fn generate() -> Result<IdentitySecret, Failure> {
    let mut filled = Ok(());
    let seed = Secret::fill(|bytes: &mut [u8; 32]| filled = getrandom::fill(bytes));
    filled.map_err(|error| Failure::new(Exit::Failed, format!("the system gives no randomness: {error}")))?;
    Ok(IdentitySecret::from_seed(seed))
}

fn of_file(exit: Exit, path: &Path, error: &KeyFileError) -> Failure {
    Failure::new(exit, format!("{}: {error}", path.display()))
}
