//! Waiting for descriptors in a thread that has no runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Descriptors that one thread can wait for at a time.
const MAX_READY: usize = 16;

/// Which of a thread's descriptors: the thread's own numbering.
pub type Token = u64;

/// What a thread waits with.
#[derive(Debug)]
pub struct Poller(Epoll);

impl Poller {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches `fd` for something to read, for as long as it is open.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn watch(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// From now on watches `fd`, which it watches already, for what is given.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn change(&self, fd: impl AsFd, token: Token, readable: bool, writable: bool) -> io::Result<()> {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, readable);
        flags.set(EpollFlags::EPOLLOUT, writable);
        Ok(self.0.modify(fd, &mut EpollEvent::new(flags, token))?)
    }

    /// Calls `each` for every descriptor that is ready; waits for the first one if `wait`.
    ///
    /// # Errors
    /// Never in practice.
    pub fn poll(&self, wait: bool, mut each: impl FnMut(Token)) -> io::Result<usize> {
        let mut events = [EpollEvent::empty(); MAX_READY];
        let timeout = if wait { EpollTimeout::NONE } else { EpollTimeout::ZERO };
        let ready = match self.0.wait(&mut events, timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        events.iter().take(ready).for_each(|event| each(event.data()));
        Ok(ready)
    }
}

/// Something to wait for in its turn: ready when any of its own is.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// Wakes a thread that waits.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// A waker for the thread whose `poller` sees it as `token`.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new(poller: &Poller, token: Token) -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        poller.watch(&event, token)?;
        Ok(Self(Arc::new(event)))
    }

    /// Wakes the thread, or the next wait of it.
    pub fn wake(&self) {
        // Full means that the thread has been woken four thousand million times and not come round.
        let _ = self.0.write(1);
    }

    /// Lets the thread sleep again.
    pub fn reset(&self) {
        let _ = self.0.read();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_wakes_the_next_wait_and_is_heard_until_it_is_reset() {
        let poller = Poller::new().unwrap();
        let waker = Waker::new(&poller, 7).unwrap();
        assert_eq!(poller.poll(false, |_| {}).unwrap(), 0);
        waker.wake();
        for _ in 0..2 {
            let mut seen = Vec::new();
            poller.poll(true, |token| seen.push(token)).unwrap();
            assert_eq!(seen, [7]);
        }
        waker.reset();
        assert_eq!(poller.poll(false, |_| {}).unwrap(), 0);
        // Lent, not given: with its last owner the waker goes, and nobody wakes any more.
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake());
            assert_eq!(poller.poll(true, |_| {}).unwrap(), 1);
        });
    }
}
