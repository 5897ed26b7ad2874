//! Resolution of a URL to addresses that may be dialled. A name with one refused address is refused as a whole.

use super::resolver::{LookupError, Resolver};
use super::timing;
use hookloom_model::address::{AddressError, AddressPolicy, check_address};
use hookloom_model::clock;
use http::Uri;
use http::uri::Scheme;
use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Address policy of a client, with its resolver.
#[derive(Clone)]
pub(super) struct Vetting {
    pub(super) policy: Arc<AddressPolicy>,
    pub(super) resolver: Resolver,
}

impl Vetting {
    /// Returns the vetted addresses of a URL's host, with the URL's port. A literal address was vetted with its URL.
    pub(super) async fn addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, Box<dyn StdError + Send + Sync>> {
        let host = uri.host().ok_or("the URL has no host")?;
        let usual_port = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual_port);
        if let Ok(literal) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(vec![(literal, port).into()]);
        }
        let begun = clock::instant();
        let found = vetted(host, &self.policy, &self.resolver).await;
        timing::looked_up(begun);
        Ok(found?.into_iter().map(|address| (address, port).into()).collect())
    }
}

/// Reason why a name may not be dialled.
pub(super) enum VettingError {
    Refused(AddressError),
    Lookup(LookupError),
}

impl From<VettingError> for Box<dyn StdError + Send + Sync> {
    fn from(error: VettingError) -> Self {
        match error {
            VettingError::Refused(error) => error.into(),
            VettingError::Lookup(error) => error.into(),
        }
    }
}

/// Returns the addresses of a name, if all of them may be dialled.
pub(super) async fn vetted(
    name: &str,
    policy: &AddressPolicy,
    resolver: &Resolver,
) -> Result<Vec<IpAddr>, VettingError> {
    let addresses = resolver.look_up(name).await.map_err(VettingError::Lookup)?;
    for address in &addresses {
        check_address(*address, policy).map_err(|error| VettingError::Refused(error.of_a_name()))?;
    }
    Ok(addresses)
}
