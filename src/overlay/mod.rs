//! Layer 2: where inner packets go. Imports `base` and `ip`.

pub mod flow;
pub mod lpm;
pub mod routes;

pub use flow::{ChannelRules, FlowMatch, TooManyRules};
pub use lpm::Lpm;
pub use routes::RouteTable;
