//! Descriptors that the runtime watches.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime watch `fd` for `interest`.
///
/// # Panics
/// Outside of a tokio runtime.
pub(super) fn watch<T: AsFd + AsRawFd>(fd: Arc<T>, interest: Interest) -> io::Result<AsyncFd<Arc<T>>> {
    #[expect(unsafe_code, reason = "the runtime asks for a promise that the types of the standard library keep")]
    // SAFETY: `T` owns an open descriptor (`AsFd`), and behind an `Arc` that the result keeps nothing can close or replace it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    Ok(watched?)
}
