//! Layer 2: bytes to values and back. Imports `base`.
//!
//! Nothing here knows a key, a clock or a session. Whatever decodes borrows from the bytes it was given, allocates nothing, and refuses with the
//! name of the field that was at fault; whatever decodes encodes to the same bytes again.

pub mod cursor;
pub mod data;
pub mod frame;
pub mod hello;
pub mod member;
pub mod packet;
pub mod record;
pub mod sealed;

pub use cursor::{DecodeError, Full, Reader, Writer};
pub use data::{DataWriter, Frames};
pub use frame::{Frame, IntroductionStatus};
pub use hello::{CookieKind, Hello, HelloKind, encode_cookie_packet, encode_hello};
pub use packet::Packet;
pub use record::{CloseReason, Record};
pub use sealed::SealedHeader;
