//! Target of requests: a URL in the form of the URL standard, for checks, and in that of HTTP, for requests.
//!
//! A target is parsed once, when a subscription is written or loaded, and shared by all of its requests.

use http::Uri;
use std::sync::Arc;
use url::Url;

/// URL of a request, in both forms. A clone is the same target.
#[derive(Clone, Debug)]
pub struct Target(Arc<Forms>);

#[derive(Debug)]
struct Forms {
    url: Url,
    uri: Option<Uri>,
}

impl Target {
    /// Returns the URL.
    pub fn url(&self) -> &Url {
        &self.0.url
    }

    /// Returns the URL in the form of HTTP. None: the stricter grammar of HTTP (RFC 3986) does not have it.
    pub fn uri(&self) -> Option<&Uri> {
        self.0.uri.as_ref()
    }
}

impl From<Url> for Target {
    fn from(url: Url) -> Self {
        let uri = url.as_str().parse().ok();
        Target(Arc::new(Forms { url, uri }))
    }
}
