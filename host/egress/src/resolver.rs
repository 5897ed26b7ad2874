//! Name resolution. The only module that uses the DNS client.
//!
//! Queries the system's name servers, or those of the setting `name_servers`, for IPv4 and IPv6 addresses: the address guard must see
//! every address of a name. Names are always absolute: no search domain is appended, so that a tenant's `db` never resolves to the
//! operator's `db.internal.example`. Answers are cached for their TTL.
//!
//! # Limits
//! Does not vet addresses; [`vetting`](super::vetting) does.

use super::dial::is_local_fault;
use futures_util::future::{Either, select};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::rr::Name;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

/// Time limit of a lookup.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// Time after which a query is repeated.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Time limit for the addresses of one family after those of the other have arrived.
const OTHER_FAMILY_MAX: Duration = Duration::from_millis(500);

/// Error when the name servers of this machine cannot be determined.
#[derive(Debug, thiserror::Error)]
#[error("the name servers of this machine are unknown; name some with the setting name_servers")]
pub struct ResolverError(#[source] Box<NetError>);

/// Reason why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The name is not a valid host name.
    #[error("the name is not a host name")]
    NoName(#[source] ProtoError),
    /// The name does not exist, or the name servers failed.
    #[error("the name does not resolve")]
    Failed(#[source] Box<NetError>),
    /// The name exists and has no addresses.
    #[error("the name has no addresses")]
    Empty,
    /// The name servers did not answer in time.
    #[error("the name did not resolve within {} s", LOOKUP_MAX.as_secs())]
    Slow,
}

impl LookupError {
    /// Returns the system error that kept this host from reaching its name servers, if there is one. Such an error says nothing about
    /// the name.
    pub(super) fn local_fault(&self) -> Option<&std::io::Error> {
        let LookupError::Failed(error) = self else { return None };
        match &**error {
            NetError::Io(error) if is_local_fault(error) || error.kind() == ErrorKind::ConnectionRefused => {
                Some(&**error)
            }
            _ => None,
        }
    }
}

/// Resolver for both address families.
#[derive(Clone)]
pub(super) struct Resolver {
    /// A separate resolver for each family, so that the answer for one does not wait for that for the other.
    ipv4: TokioResolver,
    ipv6: TokioResolver,
}

impl Resolver {
    /// Creates a resolver that uses these name servers, or the system's if there are none.
    pub(super) fn new(name_servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        let of = |family| resolver(name_servers, family).map_err(Box::new).map_err(ResolverError);
        Ok(Resolver { ipv4: of(LookupIpStrategy::Ipv4Only)?, ipv6: of(LookupIpStrategy::Ipv6Only)? })
    }

    /// Returns the addresses of a name that arrived in time, IPv4 first.
    pub(super) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        // The address guard has checked the name, which is ASCII. `from_utf8` would refuse underscores.
        let mut whole = Name::from_ascii(name).map_err(LookupError::NoName)?;
        whole.set_fqdn(true);
        let both = both(family(&self.ipv4, whole.clone()), family(&self.ipv6, whole));
        let (ipv4, ipv6) = tokio::time::timeout(LOOKUP_MAX, both).await.map_err(|_| LookupError::Slow)?;
        let addresses = match (ipv4, ipv6) {
            (Err(error), Err(_)) => return Err(error),
            (ipv4, ipv6) => [ipv4.unwrap_or_default(), ipv6.unwrap_or_default()].concat(),
        };
        if addresses.is_empty() { Err(LookupError::Empty) } else { Ok(addresses) }
    }
}

fn resolver(name_servers: &[SocketAddr], strategy: LookupIpStrategy) -> Result<TokioResolver, NetError> {
    let mut builder = if name_servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = name_servers.iter().map(|address| server(*address)).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    set(builder.options_mut(), strategy);
    builder.build()
}

/// Addresses of one family, or the reason why there are none.
type FamilyAddresses = Result<Vec<IpAddr>, LookupError>;

async fn family(resolver: &TokioResolver, name: Name) -> FamilyAddresses {
    let found = resolver.lookup_ip(name).await;
    found.map(|found| found.iter().collect()).map_err(Box::new).map_err(LookupError::Failed)
}

/// Waits for both families, for the second one only [`OTHER_FAMILY_MAX`] once the first one has addresses.
async fn both(
    ipv4: impl Future<Output = FamilyAddresses>,
    ipv6: impl Future<Output = FamilyAddresses>,
) -> (FamilyAddresses, FamilyAddresses) {
    match select(pin!(ipv4), pin!(ipv6)).await {
        Either::Left((ipv4, rest)) => {
            let ipv6 = other(&ipv4, rest).await;
            (ipv4, ipv6)
        }
        Either::Right((ipv6, rest)) => {
            let ipv4 = other(&ipv6, rest).await;
            (ipv4, ipv6)
        }
    }
}

async fn other(first: &FamilyAddresses, rest: impl Future<Output = FamilyAddresses>) -> FamilyAddresses {
    if first.as_ref().is_ok_and(|addresses| !addresses.is_empty()) {
        tokio::time::timeout(OTHER_FAMILY_MAX, rest).await.unwrap_or(Err(LookupError::Slow))
    } else {
        rest.await
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())])
}

fn set(options: &mut ResolverOpts, strategy: LookupIpStrategy) {
    options.ip_strategy = strategy;
    options.timeout = ANSWER_MAX;
    options.attempts = 2;
    options.cache_size = 4_096;
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_model::clock;
    use std::future::{pending, ready};
    use std::net::{Ipv4Addr, Ipv6Addr};

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn brief((ipv4, ipv6): (FamilyAddresses, FamilyAddresses)) -> (Option<Vec<IpAddr>>, Option<Vec<IpAddr>>) {
        (ipv4.ok(), ipv6.ok())
    }

    #[tokio::test]
    async fn a_silent_family_is_not_waited_for_when_the_other_answered() {
        let begun = clock::instant();
        assert_eq!(brief(both(ready(Ok(vec![V4])), pending()).await), (Some(vec![V4]), None));
        assert_eq!(brief(both(pending(), ready(Ok(vec![V6]))).await), (None, Some(vec![V6])));
        assert!(clock::since(begun) >= 2 * OTHER_FAMILY_MAX);
        let late = async {
            tokio::time::sleep(2 * OTHER_FAMILY_MAX).await;
            Ok(vec![V6])
        };
        assert_eq!(brief(both(ready(Ok(Vec::new())), late).await), (Some(Vec::new()), Some(vec![V6])));
        assert_eq!(brief(both(ready(Ok(vec![V4])), ready(Ok(vec![V6]))).await), (Some(vec![V4]), Some(vec![V6])));
        let silent = tokio::time::timeout(2 * OTHER_FAMILY_MAX, both(ready(Err(LookupError::Empty)), pending())).await;
        assert!(silent.is_err(), "an error of one family is no answer");
    }

    #[test]
    fn faults_of_this_host_are_not_the_names() {
        let io = |kind: ErrorKind| LookupError::Failed(Box::new(std::io::Error::from(kind).into()));
        assert!(io(ErrorKind::ConnectionRefused).local_fault().is_some());
        assert!(io(ErrorKind::ConnectionReset).local_fault().is_none());
        let full = std::io::Error::from(rustix::io::Errno::MFILE);
        assert!(LookupError::Failed(Box::new(full.into())).local_fault().is_some());
        assert!(LookupError::Slow.local_fault().is_none());
    }
}
