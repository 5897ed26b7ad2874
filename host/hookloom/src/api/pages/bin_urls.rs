//! URLs of bins: for viewers, for this host itself, and back to the bin.

use crate::api::ApiState;
use crate::ids::{BinId, TenantId};
use crate::store::StoreError;
use crate::url_path::UrlPath;
use http::HeaderMap;

/// Returns the URL of a bin, at the address by which the viewer reaches this host.
pub(super) fn url(id: &BinId, headers: &HeaderMap, state: &ApiState) -> String {
    state.link_for(headers, &UrlPath::of_bin(id))
}

/// Returns the URL of a bin, at the address by which this host reaches itself.
pub(super) fn internal_url(id: &BinId, state: &ApiState) -> String {
    format!("http://{}{}", state.operations.clients.own_address(), UrlPath::of_bin(id))
}

/// Returns the bin of a tenant that has a URL. Bins of other tenants are receivers like any other.
///
/// # Errors
///
/// Whatever the store reports, except that it has no such bin.
pub(super) async fn bin_of(url: &str, tenant: &TenantId, state: &ApiState) -> Result<Option<BinId>, StoreError> {
    let Some(id) = id_in(url, &state.operations.clients.own_address()) else { return Ok(None) };
    match state.operations.store.bin(tenant.clone(), id.clone()).await {
        Ok(_) => Ok(Some(id)),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the id of a bin at this host, from its URL.
fn id_in(url: &str, own_address: &str) -> Option<BinId> {
    let path = url.strip_prefix("http://")?.strip_prefix(own_address)?;
    BinId::parse(path.strip_prefix("/bins/")?.trim_end_matches('/')).ok()
}
