//! The resolver of the client: a name has addresses only if every one of them may be dialled.

use super::resolver::{LookupError, Resolver};
use super::timing;
use crate::address::{AddressError, AddressPolicy, check_address};
use hyper_util::client::legacy::connect::dns::Name;
use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tower::Service;

/// The resolver of the client: every address vetted.
#[derive(Clone)]
pub(super) struct Vetting {
    pub(super) policy: Arc<AddressPolicy>,
    pub(super) resolver: Resolver,
}

pub(super) type Addresses = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for Vetting {
    type Response = Addresses;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (policy, resolver) = (self.policy.clone(), self.resolver.clone());
        Box::pin(async move {
            let begun = Instant::now();
            let found = vetted(name.as_str(), &policy, &resolver).await;
            timing::looked_up(begun);
            // The port is the URL's; a resolver answers with 0 in its place.
            let addresses: Vec<SocketAddr> = found?.into_iter().map(|address| (address, 0).into()).collect();
            Ok(addresses.into_iter())
        })
    }
}

/// Reasons why a name may not be dialled.
pub(super) enum Unfit {
    Refused(AddressError),
    Unknown(LookupError),
}

impl From<Unfit> for Box<dyn StdError + Send + Sync> {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Refused(error) => error.into(),
            Unfit::Unknown(error) => error.into(),
        }
    }
}

/// The addresses of a name, if every one of them may be dialled.
pub(super) async fn vetted(name: &str, policy: &AddressPolicy, resolver: &Resolver) -> Result<Vec<IpAddr>, Unfit> {
    let addresses = resolver.look_up(name).await.map_err(Unfit::Unknown)?;
    for address in &addresses {
        check_address(*address, policy).map_err(|error| Unfit::Refused(error.of_a_name()))?;
    }
    Ok(addresses)
}
