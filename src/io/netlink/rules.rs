//! The rule of each IP version that leads into the overlay's table.

use std::fmt;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, IpVersion};
use tokio::time::sleep;

use super::{NetlinkError, PROTOCOL, Plan, failed, to_io};
use crate::io::MARK;

/// Between two restorations: whoever deletes the rule again and again shall not keep the host busy.
const PAUSE: Duration = Duration::from_secs(1);

/// What the kernel tells unasked.
pub(super) type News = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);

/// The rules for one table, whose number is their preference too.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    handle: Handle,
    table: u32,
}

impl Rules {
    pub(super) fn new(handle: Handle, table: u32) -> Self {
        Self { handle, table }
    }

    /// Adds the rule; an error if it is there.
    pub(super) async fn add(&self, family: Family) -> Result<(), rtnetlink::Error> {
        let mut request = self
            .handle
            .rule()
            .add()
            .table_id(self.table)
            .priority(self.table)
            .fw_mark(MARK)
            .action(RuleAction::ToTable);
        let message = request.message_mut();
        message.header.family = family.address_family();
        message.header.flags |= RuleFlags::Invert;
        message.attributes.push(RuleAttribute::Protocol(PROTOCOL));
        request.execute().await
    }

    /// Deletes the rules that this program made for the table, in whichever run.
    pub(super) async fn delete(&self, family: Family) -> Result<(), NetlinkError> {
        let what = || format!("delete the {family} rule for table {}", self.table);
        let rules: Vec<RuleMessage> =
            self.handle.rule().get(family.version()).execute().try_collect().await.map_err(failed(what))?;
        for rule in rules.into_iter().filter(|rule| self.is_ours(rule)) {
            match self.handle.rule().del(rule).execute().await {
                // Somebody else was faster.
                Err(error) if to_io(&error).raw_os_error() == Some(Errno::ENOENT as i32) => {}
                result => result.map_err(failed(what))?,
            }
        }
        Ok(())
    }

    /// Puts the rules back whenever somebody deletes them, as systemd-networkd does with all that it does not know when it starts. Without them the
    /// host's packets would leave in clear.
    pub(super) async fn guard(self, mut news: impl Stream<Item = News> + Unpin) {
        while let Some((message, _)) = news.next().await {
            let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRule(rule)) = message.payload else { continue };
            let family = if rule.header.family == AddressFamily::Inet { Family::V4 } else { Family::V6 };
            if !self.is_ours(&rule) {
                continue;
            }
            match self.add(family).await {
                Ok(()) => {
                    tracing::warn!(table = self.table, %family, "somebody deleted the overlay's routing rule; it is back");
                    sleep(PAUSE).await;
                }
                // It was a stale one.
                Err(error) if to_io(&error).raw_os_error() == Some(Errno::EEXIST as i32) => {}
                Err(error) => {
                    tracing::error!(table = self.table, %family, %error, "the overlay's routing rule is lost")
                }
            }
        }
    }

    fn is_ours(&self, rule: &RuleMessage) -> bool {
        let has = |wanted| rule.attributes.contains(&wanted);
        has(RuleAttribute::Protocol(PROTOCOL))
            && has(RuleAttribute::Priority(self.table))
            && (has(RuleAttribute::Table(self.table)) || u32::from(rule.header.table) == self.table)
    }
}

/// Version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn of(net: &IpNet) -> Self {
        if net.addr().is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn is_wanted(self, plan: &Plan) -> bool {
        plan.addresses.iter().chain(&plan.prefixes).any(|net| Self::of(net) == self)
    }

    fn version(self) -> IpVersion {
        match self {
            Self::V4 => IpVersion::V4,
            Self::V6 => IpVersion::V6,
        }
    }

    pub(super) fn address_family(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
