//! `up`: from a file to a running daemon.

use std::path::Path;

use super::{Exit, Failure, log};
use crate::config::Config;
use crate::daemon;

/// Runs the daemon until it is told to stop. Logging begins only after the configuration was accepted.
pub(super) fn up(path: &Path, verbose: u8) -> Result<(), Failure> {
    let (config, identity) = Config::load(path).map_err(|error| Failure::new(Exit::Refused, error))?;
    log::start(verbose).map_err(|problem| Failure::new(Exit::Usage, problem))?;
    daemon::run(config, identity).map_err(|error| Failure::new(Exit::Failed, error))
}
