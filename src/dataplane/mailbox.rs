//! What the data threads leave to the control thread.
//!
//! Four classes, each with a bound of its own, so that none crowds out another: strangers who knock cannot keep peers from being heard, and packets that wait for
//! a session keep nobody from making one. What finds its class full is dropped and counted.

use std::collections::BTreeSet;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::worker::WorkerError;
use crate::base::{Dropped, Link, PeerIndex};

/// Bytes of each class that wait at most. Control frames come first, and one round trip of acknowledgements and control records is far less.
const OPENED: usize = 1 << 20;
/// A first hello is 162 bytes: some 2,500 of them.
const STRANGERS: usize = 512 << 10;
/// Packets without a session, or for a reliable channel.
const PACKETS: usize = 1 << 20;
/// What is counted for each item besides its bytes.
const ITEM: usize = 64;

/// A datagram that no published key opens.
#[derive(Debug)]
pub struct StrangerMail {
    /// How it came.
    pub link: Link,
    /// All of it.
    pub datagram: Vec<u8>,
}

/// What a data thread has opened and may not judge.
#[derive(Debug)]
pub struct OpenedMail {
    /// Who sealed it.
    pub peer: PeerIndex,
    /// Which session, as published.
    pub session: u64,
    /// How it came.
    pub link: Link,
    /// No packet with a higher counter was seen in its epoch.
    pub highest: bool,
    /// Length of the whole datagram; 0 if it held more frames than are left here, so that a probe is not taken for one that came alone.
    pub len: usize,
    /// One packet.
    pub plaintext: Vec<u8>,
}

/// What a data thread has noticed.
#[derive(Debug)]
pub enum Notice {
    /// The kernel refused a datagram of this length on the way to this address.
    TooBig(SocketAddr, usize),
    /// A data thread has ended, and the daemon has to.
    Failed(WorkerError),
}

/// Everything that waited.
#[derive(Debug, Default)]
pub struct Mail {
    /// Peers whose session is in use again.
    pub awake: BTreeSet<PeerIndex>,
    /// What was noticed.
    pub notices: Vec<Notice>,
    /// What was opened.
    pub opened: Vec<OpenedMail>,
    /// What could not be.
    pub strangers: Vec<StrangerMail>,
    /// Packets of the interface.
    pub packets: Vec<Vec<u8>>,
    opened_bytes: usize,
    stranger_bytes: usize,
    packet_bytes: usize,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.awake.is_empty()
            && self.notices.is_empty()
            && self.opened.is_empty()
            && self.strangers.is_empty()
            && self.packets.is_empty()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    reader: AtomicWaker,
}

impl Mailbox {
    /// Takes everything out.
    pub fn take(&self) -> Mail {
        mem::take(&mut *self.lock())
    }

    /// Ready when there is something to take.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.reader.register(cx.waker());
        if self.lock().is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    pub(super) fn stranger(&self, link: Link, datagram: &[u8]) -> Result<(), Dropped> {
        let mut mail = self.lock();
        let bytes = mail.stranger_bytes + datagram.len() + ITEM;
        if bytes > STRANGERS {
            return Err(Dropped::Overload);
        }
        mail.stranger_bytes = bytes;
        mail.strangers.push(StrangerMail { link, datagram: datagram.to_vec() });
        self.wake(mail);
        Ok(())
    }

    pub(super) fn opened(&self, opened: OpenedMail) -> Result<(), Dropped> {
        let mut mail = self.lock();
        let bytes = mail.opened_bytes + opened.plaintext.len() + ITEM;
        if bytes > OPENED {
            return Err(Dropped::Overload);
        }
        mail.opened_bytes = bytes;
        mail.opened.push(opened);
        self.wake(mail);
        Ok(())
    }

    pub(super) fn packet(&self, packet: Vec<u8>) -> Result<(), Dropped> {
        let mut mail = self.lock();
        let bytes = mail.packet_bytes + packet.len() + ITEM;
        if bytes > PACKETS {
            return Err(Dropped::Overload);
        }
        mail.packet_bytes = bytes;
        mail.packets.push(packet);
        self.wake(mail);
        Ok(())
    }

    /// There are no more of these than peers.
    pub(super) fn awake(&self, peer: PeerIndex) {
        let mut mail = self.lock();
        mail.awake.insert(peer);
        self.wake(mail);
    }

    pub(super) fn notice(&self, notice: Notice) {
        let mut mail = self.lock();
        // One failure ends everything, and of the sizes that were refused the last one says enough.
        if let Notice::TooBig(..) = notice {
            mail.notices.retain(|old| !matches!(old, Notice::TooBig(..)));
        }
        mail.notices.push(notice);
        self.wake(mail);
    }

    fn wake(&self, mail: MutexGuard<'_, Mail>) {
        drop(mail);
        self.reader.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // What a panicking thread was pushing is whole or absent.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn link() -> Link {
        Link::to((Ipv4Addr::LOCALHOST, 1).into())
    }

    #[test]
    fn a_full_class_drops_and_leaves_the_others_their_room() {
        let mailbox = Mailbox::default();
        let taken = (0..100_000).filter(|_| mailbox.stranger(link(), &[0; 162]).is_ok()).count();
        assert_eq!(taken, STRANGERS / (162 + ITEM));
        assert_eq!(mailbox.packet(vec![0; 1000]), Ok(()));
        let opened = |len| OpenedMail {
            peer: PeerIndex(0),
            session: 1,
            link: link(),
            highest: true,
            len,
            plaintext: vec![0; len],
        };
        assert_eq!(mailbox.opened(opened(1000)), Ok(()));
        assert_eq!(mailbox.opened(opened(OPENED)), Err(Dropped::Overload));
        let mail = mailbox.take();
        assert_eq!((mail.strangers.len(), mail.packets.len(), mail.opened.len()), (taken, 1, 1));
        assert_eq!(mailbox.stranger(link(), &[0; 162]), Ok(()), "what was taken makes room");
    }

    #[test]
    fn the_reader_is_woken_by_whatever_comes() {
        let mailbox = Mailbox::default();
        let waker = std::task::Waker::noop();
        assert!(mailbox.poll_ready(&mut Context::from_waker(waker)).is_pending());
        mailbox.awake(PeerIndex(3));
        mailbox.awake(PeerIndex(3));
        assert!(mailbox.poll_ready(&mut Context::from_waker(waker)).is_ready());
        assert_eq!(mailbox.take().awake.into_iter().collect::<Vec<_>>(), [PeerIndex(3)]);
        assert!(mailbox.poll_ready(&mut Context::from_waker(waker)).is_pending());
    }
}
