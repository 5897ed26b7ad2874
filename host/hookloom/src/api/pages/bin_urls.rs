//! URLs of bins: for viewers, for this host itself, and back to the bin.

use crate::api::ApiState;
use crate::ids::BinId;
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

/// Returns the bin of this host that has a URL, whoever owns it.
pub(super) fn bin_of(url: &str, state: &ApiState) -> Option<BinId> {
    let path = url.strip_prefix("http://")?.strip_prefix(&state.operations.clients.own_address())?;
    BinId::parse(path.strip_prefix("/bins/")?.trim_end_matches('/')).ok()
}
