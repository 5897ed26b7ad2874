//! Bins, the built-in request inspectors, and the requests that they received.

use super::text_or_base64::text_or_base64;
use super::{Access, FieldFault, Operations, Problem, ToManage, ToRead};
use crate::address::check_host;
use crate::headers::{HeaderAuthor, check_header};
use crate::ids::BinId;
use crate::inspector::{Bin, BinRequest, BinSettings, RequestHead};
use crate::store::{BIN_BYTES_MAX, BinFilter, LiveUpdate};
use crate::url_path::UrlPath;
use hookloom_egress::{RESPONSE_BYTES_MAX, Request};
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

/// Bin of a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct BinBody {
    /// Id of the bin, which is part of its URL: 22 characters that cannot be guessed.
    #[schema(value_type = String)]
    pub(crate) id: BinId,
    /// Path at which the bin receives: any method, any path below.
    path: String,
    /// Whole URL. Absent if the setting `public_url` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(flatten)]
    settings: BinSettings,
    created_at_ms: i64,
    /// Number of requests received since the bin was created.
    received: u64,
}

impl BinBody {
    fn new(bin: Bin, operations: &Operations) -> Self {
        let Bin { id, settings, created_at_ms, received } = bin;
        let path = UrlPath::of_bin(&id);
        BinBody { url: operations.public_link(&path), path: path.to_string(), id, settings, created_at_ms, received }
    }
}

fn checked(settings: BinSettings) -> Result<BinSettings, Problem> {
    let faults = settings.check();
    if faults.is_empty() {
        Ok(settings)
    } else {
        Err(Problem::fields(
            faults.into_iter().map(|(pointer, detail)| FieldFault { pointer: pointer.to_owned(), detail }).collect(),
        ))
    }
}

/// Request that a bin received.
#[derive(Serialize, ToSchema)]
pub(crate) struct BinRequestBody {
    id: Uuid,
    received_at_ms: i64,
    #[serde(flatten)]
    head: RequestHead,
    /// Body as text, if it is text.
    body: Option<String>,
    /// Body in base64, if it is not text.
    body_base64: Option<String>,
}

impl From<BinRequest> for BinRequestBody {
    fn from(request: BinRequest) -> Self {
        let BinRequest { id, received_at_ms, head, body } = request;
        let (text, body_base64) = text_or_base64(&body);
        BinRequestBody { id, received_at_ms, head, body: text, body_base64 }
    }
}

/// Memory for an answer with a whole bin, in bytes: the requests, and their JSON.
pub(crate) const ANSWER_BYTES: u64 = 2 * BIN_BYTES_MAX;

/// Page of requests.
#[derive(Serialize, ToSchema)]
pub(crate) struct BinRequestPage {
    /// Requests, newest first.
    requests: Vec<BinRequestBody>,
    /// Value of `cursor` in the request for the next page. Absent on the last one. A search reads 4 MiB at once, so a page can be
    /// empty and have a cursor with which the search continues.
    cursor: Option<Uuid>,
}

/// Maximum length of a text to search for, in bytes.
const SEARCH_BYTES_MAX: usize = 256;

/// Checks a search text. An empty one counts as absent.
pub(crate) fn checked_search(text: Option<String>) -> Result<Option<String>, Problem> {
    let text = text.filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.len() > SEARCH_BYTES_MAX) {
        let detail = format!("a text to search for has at most {SEARCH_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid-query", detail));
    }
    Ok(text)
}

/// Destination of a replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayTo {
    /// http or https URL, vetted like a Notify URL.
    pub(crate) url: String,
}

/// Result of a replay.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplayBody {
    /// Status of the receiver's answer. Absent: there was no answer.
    pub(crate) status: Option<u16>,
    /// Text of the answer, or the reason why there was none.
    pub(crate) answer: String,
    /// Duration of the request with its answer, in microseconds.
    pub(crate) total_us: u64,
}

const REPLAY_TIMEOUT: Duration = Duration::from_secs(15);

impl Operations {
    /// Lists the tenant's bins, newest first.
    pub(crate) async fn list_bins(&self, access: &Access<ToRead>) -> Result<Vec<BinBody>, Problem> {
        let bins = self.store.bins(access.tenant.clone()).await?;
        Ok(bins.into_iter().map(|bin| BinBody::new(bin, self)).collect())
    }

    /// Creates a bin. Anybody who knows its URL can send to it. Reading it requires a key of the tenant.
    pub(crate) async fn create_bin(
        &self,
        access: &Access<ToManage>,
        settings: BinSettings,
    ) -> Result<BinBody, Problem> {
        let bin = self.store.create_bin(access.actor(), access.tenant.clone(), checked(settings)?).await?;
        Ok(BinBody::new(bin, self))
    }

    /// Returns a bin.
    pub(crate) async fn get_bin(&self, access: &Access<ToRead>, id: BinId) -> Result<BinBody, Problem> {
        Ok(BinBody::new(self.store.bin(access.tenant.clone(), id).await?, self))
    }

    /// Replaces the settings of a bin. Requests above its new limits are deleted.
    pub(crate) async fn replace_bin(
        &self,
        access: &Access<ToManage>,
        id: BinId,
        settings: BinSettings,
    ) -> Result<BinBody, Problem> {
        let bin = self.store.update_bin(access.actor(), access.tenant.clone(), id, checked(settings)?).await?;
        Ok(BinBody::new(bin, self))
    }

    /// Deletes a bin with its requests.
    pub(crate) async fn delete_bin(&self, access: &Access<ToManage>, id: BinId) -> Result<(), Problem> {
        Ok(self.store.delete_bin(access.actor(), access.tenant.clone(), id).await?)
    }

    /// Lists requests that a bin received, newest first.
    pub(crate) async fn list_bin_requests(
        &self,
        access: &Access<ToRead>,
        id: BinId,
        filter: BinFilter,
    ) -> Result<BinRequestPage, Problem> {
        let page = self.store.bin_requests(access.tenant.clone(), id, filter).await?;
        Ok(BinRequestPage { requests: page.requests.into_iter().map(Into::into).collect(), cursor: page.further })
    }

    /// Returns all requests of a bin.
    pub(crate) async fn export_bin(&self, access: &Access<ToRead>, id: BinId) -> Result<Vec<BinRequestBody>, Problem> {
        let filter = BinFilter { limit: usize::MAX >> 1, ..BinFilter::default() };
        Ok(self.list_bin_requests(access, id, filter).await?.requests)
    }

    /// Returns a request of a bin.
    pub(crate) async fn get_bin_request(
        &self,
        access: &Access<ToRead>,
        id: BinId,
        request: Uuid,
    ) -> Result<BinRequestBody, Problem> {
        Ok(self.store.bin_request(access.tenant.clone(), id, request).await?.0.into())
    }

    /// Deletes a request of a bin, or all. `request` None: all.
    pub(crate) async fn delete_bin_requests(
        &self,
        access: &Access<ToManage>,
        id: BinId,
        request: Option<Uuid>,
    ) -> Result<(), Problem> {
        self.store.forget_bin_requests(access.actor(), access.tenant.clone(), id.clone(), request).await?;
        self.store.publish_live_update(|| LiveUpdate::Bin(id));
        Ok(())
    }

    /// Sends a request again, with its method, body and headers, to another URL.
    pub(crate) async fn replay_bin_request(
        &self,
        access: &Access<ToManage>,
        id: BinId,
        request: Uuid,
        to: &ReplayTo,
    ) -> Result<ReplayBody, Problem> {
        let url = Url::parse(&to.url).map_err(|error| Problem::field("/url", error.to_string()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        check_host(&host).map_err(|error| Problem::field("/url", error.to_string()))?;
        let (received, _) = self.store.bin_request(access.tenant.clone(), id, request).await?;
        let egress =
            self.store.catalog().tenant(&access.tenant).map(|tenant| tenant.egress.clone()).unwrap_or_default();
        let client = self.clients.narrowed(&egress).map_err(|error| {
            tracing::error!(error = %crate::describe(&error), "the HTTP client to replay a request could not be built");
            Problem::conflict("the request could not be sent; the host's log names the cause")
        })?;
        let again = Request {
            method: Method::from_bytes(received.head.method.as_bytes()).unwrap_or(Method::POST),
            headers: headers(&received.head),
            target: url.into(),
            body: received.body,
            timeout: REPLAY_TIMEOUT,
            response_bytes_max: RESPONSE_BYTES_MAX,
        };
        self.store.record_bin_replay(access.actor(), access.tenant.clone(), request, host).await?;
        let (answer, timings) = client.send(again).await;
        Ok(match answer {
            Ok(answer) => ReplayBody {
                status: Some(answer.status),
                answer: String::from_utf8_lossy(&answer.body).into_owned(),
                total_us: timings.total_us,
            },
            Err(error) => ReplayBody { status: None, answer: error.to_string(), total_us: timings.total_us },
        })
    }
}

/// Returns the headers for a replay: those of the request, without headers about its connection and host. The signature stays,
/// because body and id are the same.
fn headers(head: &RequestHead) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        let ours = ["webhook-id", "webhook-timestamp", "webhook-signature", "hookloom-event-id", "content-type"];
        let parsed = if ours.contains(&name.as_str()) {
            name.parse().ok().zip(value.parse().ok())
        } else if name.eq_ignore_ascii_case("cookie") {
            // Cookies of sessions are not sent anywhere.
            None
        } else {
            check_header(name, value, HeaderAuthor::Untrusted).ok()
        };
        if let Some((name, value)) = parsed {
            headers.append::<http::HeaderName>(name, value);
        }
    }
    headers
}
