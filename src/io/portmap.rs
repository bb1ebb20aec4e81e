//! What a router forwards to this host, because it was asked to: by PCP (RFC 6887), NAT-PMP (RFC 6886), or UPnP-IGD.
//!
//! Whoever answers for the router is believed: he can make this host name a wrong address to its peers, and that is all. The questions do not carry [`MARK`](super::MARK), so a router whose
//! address lies in a prefix of a peer is not found.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::task::{Context, Poll};
use std::time::Duration;

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp};
use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, PortMappingProtocol, SearchOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What is asked for; RFC 6886 §3.3 recommends two hours.
const LIFETIME: Duration = Duration::from_secs(7200);

/// A shorter lifetime that a router grants is not renewed more often than this allows.
const LEAST_LIFETIME: Duration = Duration::from_secs(120);

/// Before a router that does not answer, or refuses, is asked again.
const RETRY: Duration = Duration::from_secs(600);

/// A router is one hop away: three questions in about two seconds.
const PATIENCE: TimeoutConfig =
    TimeoutConfig { initial_timeout: Duration::from_millis(250), max_retries: 2, max_retry_timeout: None };

/// How long UPnP may take to find the router.
const SEARCH: Duration = Duration::from_secs(3);

/// How long all attempts may take together.
const LONGEST: Duration = Duration::from_secs(20);

/// How long the end may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the router shows its owner.
const DESCRIPTION: &str = "Handfast";

/// The router of this host, and the address that this host has towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Of the router.
    pub address: Ipv4Addr,
    /// Of this host.
    pub own: Ipv4Addr,
}

/// Keeps one UDP port open on the router: asks for it, renews it, and takes it back at the end.
#[derive(Debug)]
pub struct PortMapper {
    routers: watch::Sender<Option<Router>>,
    found: mpsc::Receiver<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl PortMapper {
    /// A mapper for `port` of this host, which asks nobody yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(port: NonZero<u16>) -> Self {
        let (routers, asked) = watch::channel(None);
        let (tell, found) = mpsc::channel(1);
        Self { routers, found, task: tokio::spawn(keep(port, asked, tell)) }
    }

    /// Asks this router from now on; if it is the same as before, it is asked again, since it may have forgotten.
    pub fn ask(&self, router: Option<Router>) {
        self.routers.send_replace(router);
    }

    /// The outer address, or that there is none any more.
    pub fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Option<SocketAddr>> {
        match self.found.poll_recv(cx) {
            Poll::Ready(Some(address)) => Poll::Ready(address),
            // The task does not end before this value.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Takes the mapping back.
    pub async fn end(self) {
        let Self { routers, found, mut task } = self;
        drop((routers, found));
        if timeout(FAREWELL, &mut task).await.is_err() {
            tracing::debug!("the router does not answer; its mapping ends by itself");
            task.abort();
        }
    }
}

/// Ends when `routers` does.
async fn keep(
    port: NonZero<u16>,
    mut routers: watch::Receiver<Option<Router>>,
    tell: mpsc::Sender<Option<SocketAddr>>,
) {
    let mut told = None;
    let mut mapping: Option<(Router, Mapping)> = None;
    loop {
        let router = *routers.borrow_and_update();
        // In another network the old router is out of reach.
        let kept = mapping.take().filter(|(of, _)| Some(*of) == router);
        // What is begun is finished, so that it can be taken back.
        let result = match router {
            Some(router) => timeout(LONGEST, renew_or_open(router, port, kept.map(|(_, mapping)| mapping)))
                .await
                .unwrap_or_else(|_| Err(Refused("it takes too long".into()))),
            None => Err(Refused("there is no router".into())),
        };
        let wait = match result {
            Ok((open, address)) => {
                tell_of(Some(address), &mut told, &tell).await;
                let wait = open.lifetime() / 2;
                mapping = router.map(|router| (router, open));
                wait
            }
            Err(error) => {
                tracing::debug!(%error, "no router forwards the port");
                tell_of(None, &mut told, &tell).await;
                RETRY
            }
        };
        let ended = tokio::select! {
            () = sleep(wait) => false,
            changed = routers.changed() => changed.is_err(),
        };
        if ended {
            if let Some((_, mapping)) = mapping {
                mapping.close().await;
            }
            return;
        }
    }
}

async fn tell_of(address: Option<SocketAddr>, told: &mut Option<SocketAddr>, tell: &mpsc::Sender<Option<SocketAddr>>) {
    if *told != address {
        *told = address;
        match address {
            Some(_) => tracing::info!("the router forwards the port"),
            None => tracing::info!("the router does not forward the port any more"),
        }
        // At the end nobody listens.
        let _ = tell.send(address).await;
    }
}

/// A port that is open.
enum Mapping {
    /// By PCP or NAT-PMP.
    Asked(PortMapping),
    /// By UPnP.
    Upnp {
        gateway: Gateway<Tokio>,
        own: SocketAddr,
        outer: u16,
        /// In seconds; 0 for one without end.
        lease: u32,
    },
}

async fn renew_or_open(
    router: Router,
    port: NonZero<u16>,
    kept: Option<Mapping>,
) -> Result<(Mapping, SocketAddr), Refused> {
    if let Some(mut mapping) = kept {
        match mapping.renew().await {
            Ok(address) => return Ok((mapping, address)),
            Err(error) => tracing::debug!(%error, "a mapping cannot be renewed"),
        }
    }
    let options = PortMappingOptions {
        external_port: Some(port),
        lifetime_seconds: Some(LIFETIME.as_secs() as u32),
        timeout_config: Some(PATIENCE),
    };
    let gateway = router.address.into();
    let by_pcp = PortMapping::new(gateway, router.own.into(), InternetProtocol::Udp, port, options).await;
    let asked = match by_pcp {
        Ok(mapping) => Ok(mapping),
        // A router that knows NAT-PMP only should say so, but some say nothing.
        Err(error) => natpmp::port_mapping(gateway, InternetProtocol::Udp, port, options)
            .await
            .map_err(|other| Refused(format!("{error}, {other}"))),
    };
    let error = match asked {
        Ok(mapping) => {
            let mapping = Mapping::Asked(mapping);
            match mapping.address().await {
                Ok(address) => return Ok((mapping, address)),
                Err(error) => {
                    mapping.close().await;
                    error
                }
            }
        }
        Err(error) => error,
    };
    open_by_upnp(router, port.get()).await.map_err(|other| Refused(format!("{error}, UPnP({other})")))
}

async fn open_by_upnp(router: Router, port: u16) -> Result<(Mapping, SocketAddr), Refused> {
    let mut options = SearchOptions::default();
    options.bind_addr = (router.own, 0).into();
    options.timeout = Some(SEARCH);
    options.single_search_timeout = Some(SEARCH);
    let gateway = search_gateway(options).await.map_err(refused)?;
    if gateway.addr.ip() != IpAddr::V4(router.address) {
        return Err(Refused("somebody else than the router answers".into()));
    }
    let own = SocketAddr::from((router.own, port));
    let udp = PortMappingProtocol::UDP;
    let lease = LIFETIME.as_secs() as u32;
    let (outer, lease) = match gateway.add_port(udp, port, own, lease, DESCRIPTION).await {
        Ok(()) => (port, lease),
        // It ends with this program, or when the router starts again.
        Err(AddPortError::OnlyPermanentLeasesSupported) => {
            gateway.add_port(udp, port, own, 0, DESCRIPTION).await.map_err(refused)?;
            (port, 0)
        }
        Err(AddPortError::PortInUse) => {
            (gateway.add_any_port(udp, own, lease, DESCRIPTION).await.map_err(refused)?, lease)
        }
        Err(error) => return Err(refused(error)),
    };
    let mapping = Mapping::Upnp { gateway, own, outer, lease };
    match mapping.address().await {
        Ok(address) => Ok((mapping, address)),
        Err(error) => {
            mapping.close().await;
            Err(error)
        }
    }
}

impl Mapping {
    async fn renew(&mut self) -> Result<SocketAddr, Refused> {
        match self {
            Self::Asked(mapping) => mapping.renew().await.map_err(refused)?,
            Self::Upnp { gateway, own, outer, lease } => {
                gateway.add_port(PortMappingProtocol::UDP, *outer, *own, *lease, DESCRIPTION).await.map_err(refused)?;
            }
        }
        self.address().await
    }

    /// Where the router forwards from, if that is an address to be reached at.
    async fn address(&self) -> Result<SocketAddr, Refused> {
        let address = match self {
            Self::Asked(mapping) => {
                let ip = match mapping.mapping_type() {
                    PortMappingType::Pcp { external_ip, .. } => external_ip,
                    PortMappingType::NatPmp => {
                        natpmp::external_address(mapping.gateway(), Some(PATIENCE)).await.map_err(refused)?.into()
                    }
                };
                SocketAddr::new(ip.to_canonical(), mapping.external_port().get())
            }
            Self::Upnp { gateway, outer, .. } => {
                SocketAddr::new(gateway.get_external_ip().await.map_err(refused)?.to_canonical(), *outer)
            }
        };
        match address.ip() {
            IpAddr::V4(ip) if is_of_one_host(ip) => Ok(address),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => Err(Refused(format!("its outer address {ip} is none"))),
        }
    }

    fn lifetime(&self) -> Duration {
        match self {
            Self::Asked(mapping) => Duration::from_secs(mapping.lifetime().into()).clamp(LEAST_LIFETIME, LIFETIME),
            // A router that starts again forgets it, even one without end.
            Self::Upnp { .. } => LIFETIME,
        }
    }

    async fn close(self) {
        let result = match self {
            Self::Asked(mapping) => mapping.try_drop().await.map_err(|(error, _)| refused(error)),
            Self::Upnp { gateway, outer, .. } => {
                gateway.remove_port(PortMappingProtocol::UDP, outer).await.map_err(refused)
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a mapping cannot be taken back; it ends by itself");
        }
    }
}

fn is_of_one_host(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
}

/// Why there is no mapping, in the words of whoever refused it.
#[derive(Debug)]
struct Refused(String);

fn refused(error: impl fmt::Display) -> Refused {
    Refused(error.to_string())
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
