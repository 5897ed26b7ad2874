//! Names and their addresses: the only home of the DNS client.
//!
//! Asks the system's name servers, or those of the setting `name_servers`, for IPv4 and IPv6 addresses alike: who vets
//! an answer must see all of it. A name is always a whole one: no search domain of this machine is put behind it, so that
//! a tenant's `db` is never the operator's `db.internal.example`. Answers are kept as long as they say. Vets nothing.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::rr::Name;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A name that does not resolve in this time does not resolve.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// One question is asked again after this.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
#[error("the name servers of this machine are unknown; name some with the setting name_servers")]
pub struct ResolverError(#[source] Box<NetError>);

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// It cannot be one.
    #[error("the name is no host name")]
    NoName(#[source] ProtoError),
    /// Nobody knows it, or nobody answers.
    #[error("the name does not resolve")]
    Failed(#[source] Box<NetError>),
    /// It exists, and has none.
    #[error("the name has no addresses")]
    Empty,
    /// The name servers are silent.
    #[error("the name did not resolve within {} s", LOOKUP_MAX.as_secs())]
    Slow,
}

/// Looks names up.
#[derive(Clone)]
pub(super) struct Resolver(TokioResolver);

impl Resolver {
    /// One that asks these name servers; the system's if there are none.
    pub(super) fn new(name_servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        let mut builder = if name_servers.is_empty() {
            TokioResolver::builder_tokio().map_err(Box::new).map_err(ResolverError)?
        } else {
            let servers = name_servers.iter().map(|address| server(*address)).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        set(builder.options_mut());
        Ok(Resolver(builder.build().map_err(Box::new).map_err(ResolverError)?))
    }

    /// Every address of a name.
    pub(super) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let mut whole = Name::from_utf8(name).map_err(LookupError::NoName)?;
        whole.set_fqdn(true);
        let found = tokio::time::timeout(LOOKUP_MAX, self.0.lookup_ip(whole)).await.map_err(|_| LookupError::Slow)?;
        let addresses: Vec<IpAddr> = found.map_err(Box::new).map_err(LookupError::Failed)?.iter().collect();
        if addresses.is_empty() { Err(LookupError::Empty) } else { Ok(addresses) }
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())])
}

fn set(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = ANSWER_MAX;
    options.attempts = 2;
    options.cache_size = 4_096;
}
