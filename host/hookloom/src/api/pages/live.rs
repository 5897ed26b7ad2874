//! Live updates for open pages (server-sent events, WHATWG HTML §9.2): after an update, a page loads its regions again.
//!
//! A page hears of what happens at its host: with several hosts, of the attempts and incidents of the tenants and webhooks that this host has.
//!
//! A stream holds a connection, so streams are bounded for each session and each tenant (`exchange.rs`). A stream ends within
//! [`ACCESS_CHECK_INTERVAL`] after its session has ended, its key was revoked, or its tenant was deleted.

use super::PageError;
use super::user::TenantUser;
use crate::access::credential_hash;
use crate::api::ApiState;
use crate::api::exchange::Exchange;
use crate::api::extract::Params;
use crate::api::streams::OpenStream;
use crate::operations::{Access, Problem, ToRead};
use crate::store::LiveUpdate;
use crate::subscription::TenantId;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Interval;

/// Interval at which a stream checks that its session may still see the tenant.
const ACCESS_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Delay before a page reconnects after a newer stream of the same session has displaced its stream.
const DISPLACED_RETRY: Duration = Duration::from_secs(60);

/// Query of a live stream.
#[derive(Deserialize)]
pub(super) struct Watched {
    /// Subject that the page watches: `attempts`, `incidents`, `overview` for both, or the id of a bin.
    topic: String,
}

/// Streams live updates until the page is closed.
pub(super) async fn watch(
    user: TenantUser,
    exchange: Exchange,
    Params(Watched { topic }): Params<Watched>,
    State(state): State<Arc<ApiState>>,
) -> Result<(NotBuffered, Sse<impl Stream<Item = Result<Event, Infallible>>>), PageError> {
    let wanted = match topic.as_str() {
        "attempts" => vec![LiveUpdate::Attempt(user.tenant.clone())],
        "incidents" => vec![LiveUpdate::Incident(user.tenant.clone())],
        "overview" => vec![LiveUpdate::Attempt(user.tenant.clone()), LiveUpdate::Incident(user.tenant.clone())],
        bin => {
            let bin = bin.parse().map_err(|_| Problem::not_found("bin"))?;
            vec![LiveUpdate::Bin(state.operations.store.bin(user.tenant.clone(), bin).await?.id)]
        }
    };
    let session = credential_hash(&user.user.cookie);
    let watcher = Watcher {
        updates: state.operations.store.watch_live_updates(),
        wanted,
        slot: exchange.become_stream(session)?,
        access_checks: tokio::time::interval(ACCESS_CHECK_INTERVAL),
        session,
        portal_cookie: user.user.portal.is_some().then_some(user.user.cookie),
        tenant: user.tenant,
        state,
    };
    let stream = futures_util::stream::unfold(Some(watcher), |watcher| async move { watcher?.next().await });
    let stream = Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
    Ok(([("x-accel-buffering", "no")], stream))
}

/// Header that makes nginx pass a stream on at once instead of buffering it.
type NotBuffered = [(&'static str, &'static str); 1];

/// The host's end of a stream.
struct Watcher {
    updates: Receiver<LiveUpdate>,
    wanted: Vec<LiveUpdate>,
    slot: OpenStream,
    access_checks: Interval,
    session: [u8; 32],
    /// Cookie of a session of the portal.
    portal_cookie: Option<String>,
    tenant: TenantId,
    state: Arc<ApiState>,
}

impl Watcher {
    /// Waits for the next event. Returns `None` if the stream has ended, and an event without a watcher if it is the last one.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Option<Self>)> {
        loop {
            let is_update = tokio::select! {
                () = self.slot.displaced() => {
                    return Some((Ok(Event::default().retry(DISPLACED_RETRY)), None));
                }
                _ = self.access_checks.tick() => false,
                update = self.updates.recv() => match update {
                    Ok(update) => self.wanted.contains(&update),
                    // The receiver missed updates, and the page loads its regions again.
                    Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => return None,
                },
            };
            if !self.may_see().await {
                return None;
            }
            if is_update {
                return Some((Ok(Event::default().data("look")), Some(self)));
            }
        }
    }

    async fn may_see(&self) -> bool {
        let store = &self.state.operations.store;
        let key = match &self.portal_cookie {
            // A session that cannot be read now may be read at the next check.
            Some(cookie) => match store.portal_session(cookie).await {
                Ok(session) => session.map(|session| Arc::new(session.key())),
                Err(_) => return true,
            },
            None => store.catalog().session(&self.session).map(|(_, key)| key),
        };
        key.is_some_and(|key| Access::<ToRead>::of(key, &self.tenant.0, &self.state.operations).is_ok())
    }
}
