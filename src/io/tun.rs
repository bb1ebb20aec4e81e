//! The TUN device: IP packets from and to the kernel, each behind a header that says what is left to do on it.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::tun::Configuration;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::stat::Mode;

use super::offload::{Capabilities, VnetHeader};
use crate::base::TunSink;

/// No IP packet is longer, so no read is ever cut short.
pub const MAX_PACKET: usize = 65_535;

/// The longest read: a header and a packet.
pub const MAX_READ: usize = VnetHeader::LEN + MAX_PACKET;

/// Parts of one packet that a write gathers at most: the header, and the pieces of a super packet.
pub const MAX_SLICES: usize = 130;

/// What the kernel calls the kinds of offload it does for the device (`TUN_F_*` in linux/if_tun.h).
mod flag {
    pub(super) const CSUM: u32 = 0x01;
    pub(super) const TSO4: u32 = 0x02;
    pub(super) const TSO6: u32 = 0x04;
    pub(super) const TSO_ECN: u32 = 0x08;
    pub(super) const USO4: u32 = 0x20;
    pub(super) const USO6: u32 = 0x40;
}

mod ioctl {
    use nix::libc;

    nix::ioctl_write_ptr_bad!(
        #[doc = "TUNSETIFF: attaches a queue to the device that is named."]
        set_iff,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        libc::ifreq
    );
    nix::ioctl_write_int_bad!(
        #[doc = "TUNSETOFFLOAD: what may be left to whoever reads and writes."]
        set_offload,
        nix::request_code_write!(b'T', 208, size_of::<libc::c_uint>())
    );
}

/// A TUN interface that lives as long as one of its queues does.
#[derive(Debug)]
pub struct Tun {
    /// One for each thread: the kernel keeps the packets of a flow on one.
    pub queues: Vec<Queue>,
    /// The interface's index.
    pub index: u32,
    /// What the kernel does for the device.
    pub offload: Capabilities,
}

impl Tun {
    /// Creates the interface `name` with so many queues, without address and down; `offload` if packets may be super packets.
    ///
    /// # Errors
    /// See [`TunError`]. An interface of that name that exists already is never taken over.
    pub fn create(name: &str, queues: usize, offload: bool) -> Result<Self, TunError> {
        if if_nametoindex(name).is_ok() {
            return Err(TunError::NameTaken);
        }
        let queues = if queues <= 1 {
            vec![Queue::new(create_single(name)?)?]
        } else {
            (0..queues).map(|_| Queue::new(attach(name)?)).collect::<Result<_, TunError>>()?
        };
        let index = if_nametoindex(name).map_err(|errno| TunError::Io(errno.into()))?;
        let offload = match queues.first() {
            Some(queue) if offload => queue.set_offload(),
            Some(_) | None => Capabilities { tso: false, uso: false },
        };
        Ok(Self { queues, index, offload })
    }
}

/// A device of one queue.
fn create_single(name: &str) -> Result<OwnedFd, TunError> {
    let mut configuration = Configuration::default();
    configuration.tun_name(name).platform_config(|platform| {
        // Address, MTU and state are set by netlink, where failure has a reason.
        platform.ensure_root_privileges(false);
        platform.vnet_hdr(true);
    });
    let device = ::tun::create(&configuration).map_err(TunError::from_open)?;
    #[expect(unsafe_code, reason = "the crate hands its descriptor over as a number")]
    // SAFETY: `into_raw_fd` gives up ownership of an open descriptor, and nothing else closes it.
    let fd = unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) };
    Ok(fd)
}

/// One queue of a device of several, which the crate does not make. The first one creates the device.
fn attach(name: &str) -> Result<OwnedFd, TunError> {
    let error = |errno: Errno| TunError::from_io(errno.into());
    let fd = nix::fcntl::open("/dev/net/tun", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(error)?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let mut ifr_name = [0; libc::IFNAMSIZ];
    // The last byte stays zero.
    if name.len() >= ifr_name.len() || name.contains('\0') {
        return Err(TunError::BadName);
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let request =
        libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short } };
    #[expect(unsafe_code, reason = "the safe wrappers know no TUN devices")]
    // SAFETY: TUNSETIFF reads one `ifreq`, which lives until the call returns.
    unsafe { ioctl::set_iff(fd.as_raw_fd(), &raw const request) }.map_err(error)?;
    Ok(fd)
}

/// One queue of the device, for reading and writing. Every packet has a [`VnetHeader`] before it.
#[derive(Clone, Debug)]
pub struct Queue {
    fd: Arc<OwnedFd>,
}

impl Queue {
    fn new(fd: OwnedFd) -> Result<Self, TunError> {
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(io::Error::from)?;
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Asks for as much offload as the kernel has.
    fn set_offload(&self) -> Capabilities {
        let tcp = flag::CSUM | flag::TSO4 | flag::TSO6 | flag::TSO_ECN;
        #[expect(unsafe_code, reason = "the safe wrappers know no TUN devices")]
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let ask = |flags: u32| unsafe { ioctl::set_offload(self.fd.as_raw_fd(), flags as libc::c_int) }.is_ok();
        // Before Linux 6.2 there is none for UDP.
        if ask(tcp | flag::USO4 | flag::USO6) {
            Capabilities { tso: true, uso: true }
        } else {
            Capabilities { tso: ask(tcp), uso: false }
        }
    }

    /// Reads a header and a packet into `buffer`, which should hold [`MAX_READ`] bytes; `None` when there is none at present.
    ///
    /// # Errors
    /// [`TunError::Gone`] when somebody deleted the interface; anything else is as fatal.
    pub fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>, TunError> {
        match nix::unistd::read(&self.fd, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(Errno::EBADFD) => Err(TunError::Gone),
            Err(errno) => Err(TunError::Io(errno.into())),
        }
    }

    /// Writes one packet, which stands in pieces behind its header.
    pub fn write(&self, slices: &[IoSlice<'_>], counters: &TunCounters) {
        let counter = match nix::sys::uio::writev(&self.fd, slices) {
            Ok(_) => &counters.delivered,
            // Set down by the administrator.
            Err(Errno::EIO) => &counters.down,
            Err(_) => &counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Delivers whole packets, one by one.
#[derive(Clone, Debug)]
pub struct TunWriter {
    queue: Queue,
    counters: Arc<TunCounters>,
}

impl TunWriter {
    /// Writes to `queue`, and counts.
    pub fn new(queue: Queue, counters: Arc<TunCounters>) -> Self {
        Self { queue, counters }
    }
}

impl TunSink for TunWriter {
    fn deliver(&mut self, packet: &[u8]) {
        let header = VnetHeader::default().encode();
        self.queue.write(&[IoSlice::new(&header), IoSlice::new(packet)], &self.counters);
    }
}

/// How the kernel took the packets that were delivered to it; a super packet is one.
#[derive(Debug, Default)]
pub struct TunCounters {
    /// Taken.
    pub delivered: AtomicU64,
    /// Lost because the interface was down.
    pub down: AtomicU64,
    /// Refused for another reason, such as want of memory.
    pub refused: AtomicU64,
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
        Self::from_io(error.into())
    }

    fn from_io(error: io::Error) -> Self {
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
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::io::netlink::tests::{await_end_of, in_namespace};

    /// A pair of packet sockets stands in for the device, which only root can make.
    fn device() -> (OwnedFd, Queue) {
        let (kernel, ours) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        (kernel, Queue::new(ours).unwrap())
    }

    #[test]
    fn packets_are_read_whole_and_in_order_until_there_are_none() {
        let (kernel, queue) = device();
        let mut buffer = vec![0; MAX_READ];
        for packet in [&b"first"[..], b"second packet"] {
            nix::unistd::write(&kernel, packet).unwrap();
        }
        assert_eq!(queue.read(&mut buffer).unwrap(), Some(5));
        assert_eq!(queue.read(&mut buffer).unwrap(), Some(13));
        assert_eq!(&buffer[..13], b"second packet");
        assert_eq!(queue.read(&mut buffer).unwrap(), None);
    }

    #[test]
    fn deliveries_that_the_kernel_refuses_are_counted_and_harmless() {
        let (kernel, queue) = device();
        let counters = Arc::new(TunCounters::default());
        let mut writer = TunWriter::new(queue, Arc::clone(&counters));
        writer.deliver(b"packet");
        let mut buffer = [0; 32];
        assert_eq!(nix::unistd::read(&kernel, &mut buffer).unwrap(), VnetHeader::LEN + 6);
        assert_eq!(&buffer[..16], b"\0\0\0\0\0\0\0\0\0\0packet");
        // A full queue, as any other refusal.
        for _ in 0..100_000 {
            writer.deliver(b"packet");
        }
        let [delivered, refused] =
            [&counters.delivered, &counters.refused].map(|counter| counter.load(Ordering::Relaxed));
        assert!(refused > 0);
        assert_eq!(delivered + refused, 100_001);
    }

    #[test]
    fn a_created_interface_exists_until_it_is_dropped_and_its_name_is_not_shared() {
        in_namespace(|| async {
            for (queues, offload) in [(1, true), (3, true), (1, false), (2, false)] {
                let tun = Tun::create("hf-test", queues, offload).unwrap();
                assert_eq!(if_nametoindex("hf-test").unwrap(), tun.index);
                assert_eq!((tun.queues.len(), tun.offload.tso), (queues, offload));
                for queues in [1, 2] {
                    assert!(matches!(Tun::create("hf-test", queues, true), Err(TunError::NameTaken)));
                    assert!(matches!(Tun::create("lo", queues, true), Err(TunError::NameTaken)));
                    assert!(matches!(Tun::create("a-name-that-is-too-long", queues, true), Err(TunError::BadName)));
                    assert!(matches!(Tun::create("a/b", queues, true), Err(TunError::BadName)));
                }
                drop(tun);
                await_end_of("hf-test");
            }
        });
    }

    #[test]
    fn a_deleted_interface_is_reported_as_gone() {
        in_namespace(|| async {
            let tun = Tun::create("hf-test", 2, true).unwrap();
            let poller = crate::io::poller::Poller::new().unwrap();
            poller.watch(&tun.queues[0], 1).unwrap();
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            let connection = tokio::spawn(connection);
            handle.link().del(tun.index).execute().await.unwrap();
            assert_eq!(poller.poll(true, |_| {}).unwrap(), 1, "whoever waits for packets wakes");
            assert!(matches!(tun.queues[0].read(&mut [0; 100]), Err(TunError::Gone)));
            connection.abort();
        });
    }
}
