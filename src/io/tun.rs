//! The TUN device: IP packets from and to the kernel, one a system call.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::tun::Configuration;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::net::if_::if_nametoindex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::readiness::watch;
use crate::base::TunSink;

/// No IP packet is longer, so no read is ever cut short.
pub const MAX_PACKET: usize = 65_535;

/// A TUN interface that lives as long as one of its two halves does.
#[derive(Debug)]
pub struct Tun {
    /// Packets that the host sends into the overlay.
    pub reader: TunReader,
    /// Packets that the overlay hands to the host.
    pub writer: TunWriter,
    /// The interface's index.
    pub index: u32,
}

impl Tun {
    /// Creates the interface `name`, without address and down.
    ///
    /// # Errors
    /// See [`TunError`]. An interface of that name that exists already is never taken over.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn create(name: &str) -> Result<Self, TunError> {
        if if_nametoindex(name).is_ok() {
            return Err(TunError::NameTaken);
        }
        let mut configuration = Configuration::default();
        configuration.tun_name(name).platform_config(|platform| {
            // Address, MTU and state are set by netlink, where failure has a reason.
            platform.ensure_root_privileges(false);
        });
        let device = ::tun::create(&configuration).map_err(TunError::from_open)?;
        #[expect(unsafe_code, reason = "the crate hands its descriptor over as a number")]
        // SAFETY: `into_raw_fd` gives up ownership of an open descriptor, and nothing else closes it.
        let fd = unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) };
        let index = if_nametoindex(name).map_err(|errno| TunError::Io(errno.into()))?;
        Self::from_descriptor(fd, index)
    }

    fn from_descriptor(fd: OwnedFd, index: u32) -> Result<Self, TunError> {
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(io::Error::from)?;
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
        let fd = Arc::new(fd);
        // Only readability: a device that reports each packet it has room for again would wake the loop for every one that was written.
        let reader = TunReader { fd: watch(Arc::clone(&fd), Interest::READABLE)? };
        Ok(Self { reader, writer: TunWriter { fd, counters: TunCounters::default() }, index })
    }
}

/// The half that reads.
#[derive(Debug)]
pub struct TunReader {
    fd: AsyncFd<Arc<OwnedFd>>,
}

impl TunReader {
    /// Ready when [`TunReader::read`] may find a packet.
    ///
    /// # Errors
    /// [`TunError::Gone`] when somebody deleted the interface; anything else is as fatal.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), TunError>> {
        // Room for writing is not watched, so this can only be the device's last sign of life.
        if self.fd.poll_write_ready(cx).is_ready() {
            return Poll::Ready(Err(TunError::Gone));
        }
        ready!(self.fd.poll_read_ready(cx))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    /// Reads one packet into `buffer`, which should hold [`MAX_PACKET`] bytes; `None` when there is none at present.
    ///
    /// # Errors
    /// [`TunError::Gone`] when somebody deleted the interface; anything else is as fatal.
    pub fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>, TunError> {
        match self.fd.try_io(Interest::READABLE, |fd| Ok(nix::unistd::read(fd, buffer)?)) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINTR) => Ok(None),
                Some(Errno::EBADFD) => Err(TunError::Gone),
                _ => Err(TunError::Io(error)),
            },
        }
    }
}

/// The half that writes.
#[derive(Debug)]
pub struct TunWriter {
    fd: Arc<OwnedFd>,
    counters: TunCounters,
}

impl TunWriter {
    /// What was written so far.
    pub fn counters(&self) -> TunCounters {
        self.counters
    }
}

impl TunSink for TunWriter {
    fn deliver(&mut self, packet: &[u8]) {
        match nix::unistd::write(&self.fd, packet) {
            Ok(_) => self.counters.delivered += 1,
            // Set down by the administrator.
            Err(Errno::EIO) => self.counters.down += 1,
            Err(_) => self.counters.refused += 1,
        }
    }
}

/// How the kernel took the packets that were delivered to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunCounters {
    /// Taken.
    pub delivered: u64,
    /// Lost because the interface was down.
    pub down: u64,
    /// Refused for another reason, such as want of memory.
    pub refused: u64,
}

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel offers none.
    #[error("/dev/net/tun is missing: load the kernel module `tun`, or give this container the device")]
    NoDevice,
    /// The process lacks the right.
    #[error("not permitted: creating an interface needs CAP_NET_ADMIN, and read and write access to /dev/net/tun")]
    NotPermitted,
    /// The name belongs to somebody else.
    #[error(
        "an interface of this name exists already: is another daemon running? If not, delete it or choose another name"
    )]
    NameTaken,
    /// The name is too long or holds what the kernel does not allow.
    #[error("not a name for an interface: 1 to 15 bytes, without `/`, `:`, `%` and spaces")]
    BadName,
    /// The interface was deleted while it was in use.
    #[error("the interface was deleted by somebody else")]
    Gone,
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl TunError {
    fn from_open(error: ::tun::Error) -> Self {
        if matches!(error, ::tun::Error::NameTooLong | ::tun::Error::Nul(_)) {
            return Self::BadName;
        }
        let error = io::Error::from(error);
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => Self::NoDevice,
            Some(Errno::EPERM | Errno::EACCES) => Self::NotPermitted,
            Some(Errno::EBUSY | Errno::EEXIST) => Self::NameTaken,
            // The name was free a moment ago, so it is its spelling that the kernel refuses.
            Some(Errno::EINVAL) => Self::BadName,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::io::netlink::tests::{await_end_of, in_namespace};

    /// A pair of packet sockets stands in for the device, which only root can make.
    fn device() -> (OwnedFd, Tun) {
        let (kernel, ours) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        (kernel, Tun::from_descriptor(ours, 1).unwrap())
    }

    #[tokio::test]
    async fn packets_are_read_whole_and_in_order_until_there_are_none() {
        let (kernel, tun) = device();
        let mut buffer = vec![0; MAX_PACKET];
        for packet in [&b"first"[..], b"second packet"] {
            nix::unistd::write(&kernel, packet).unwrap();
        }
        poll_fn(|cx| tun.reader.poll_ready(cx)).await.unwrap();
        assert_eq!(tun.reader.read(&mut buffer).unwrap(), Some(5));
        assert_eq!(tun.reader.read(&mut buffer).unwrap(), Some(13));
        assert_eq!(&buffer[..13], b"second packet");
        assert_eq!(tun.reader.read(&mut buffer).unwrap(), None);
    }

    #[tokio::test]
    async fn deliveries_that_the_kernel_refuses_are_counted_and_harmless() {
        let (kernel, mut tun) = device();
        tun.writer.deliver(b"packet");
        let mut buffer = [0; 16];
        assert_eq!(nix::unistd::read(&kernel, &mut buffer).unwrap(), 6);
        // A full queue, as any other refusal.
        for _ in 0..100_000 {
            tun.writer.deliver(b"packet");
        }
        let counters = tun.writer.counters();
        assert!(counters.refused > 0);
        assert_eq!(counters.delivered + counters.refused, 100_001);
    }

    #[test]
    fn a_created_interface_exists_until_it_is_dropped_and_its_name_is_not_shared() {
        in_namespace(|| async {
            let tun = Tun::create("hf-test").unwrap();
            assert_eq!(if_nametoindex("hf-test").unwrap(), tun.index);
            assert!(matches!(Tun::create("hf-test"), Err(TunError::NameTaken)));
            assert!(matches!(Tun::create("lo"), Err(TunError::NameTaken)));
            assert!(matches!(Tun::create("a-name-that-is-too-long"), Err(TunError::BadName)));
            assert!(matches!(Tun::create("a/b"), Err(TunError::BadName)));
            drop(tun);
            await_end_of("hf-test");
        });
    }

    #[test]
    fn a_deleted_interface_is_reported_as_gone() {
        in_namespace(|| async {
            let tun = Tun::create("hf-test").unwrap();
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            let connection = tokio::spawn(connection);
            handle.link().del(tun.index).execute().await.unwrap();
            assert!(matches!(poll_fn(|cx| tun.reader.poll_ready(cx)).await, Err(TunError::Gone)));
            connection.abort();
        });
    }
}
