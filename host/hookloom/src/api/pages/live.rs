//! Live updates for open pages (server-sent events, WHATWG HTML §9.2): after an update, a page loads its regions again.
//!
//! A stream holds a connection, so a session has a few of them and a tenant its share (`exchange.rs`); and it ends within
//! [`LOOK`] when its session ends, when its key is revoked, or when the tenant is gone.

use super::PageError;
use super::user::TenantUser;
use crate::access::credential_hash;
use crate::api::ApiState;
use crate::api::exchange::Exchange;
use crate::api::extract::{Access, Params, ToRead};
use crate::api::problem::Problem;
use crate::api::streams::OpenStream;
use crate::store::Notice;
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

/// Interval at which a stream looks whether its session may still see the tenant.
const LOOK: Duration = Duration::from_secs(1);

/// Delay before a page reconnects whose stream gave way to a newer one of the same session.
const DISPLACED_RETRY: Duration = Duration::from_secs(60);

/// Subject that a page watches: `attempts`, or a bin by its id.
#[derive(Deserialize)]
pub(super) struct Watched {
    topic: String,
}

/// Watches until the page is left.
pub(super) async fn watch(
    user: TenantUser,
    exchange: Exchange,
    Params(Watched { topic }): Params<Watched>,
    State(state): State<Arc<ApiState>>,
) -> Result<(NotBuffered, Sse<impl Stream<Item = Result<Event, Infallible>>>), PageError> {
    let wanted = match topic.as_str() {
        "attempts" => Notice::Attempt(user.tenant.clone()),
        bin => {
            let bin = bin.parse().map_err(|_| Problem::not_found("bin"))?;
            Notice::Bin(state.store.bin(user.tenant.clone(), bin).await?.id)
        }
    };
    let session = credential_hash(&user.user.cookie);
    let watcher = Watcher {
        notices: state.store.watch(),
        wanted,
        place: exchange.become_stream(session)?,
        looks: tokio::time::interval(LOOK),
        session,
        tenant: user.tenant,
        state,
    };
    let stream = futures_util::stream::unfold(Some(watcher), |watcher| async move { watcher?.next().await });
    let stream = Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)));
    Ok(([("x-accel-buffering", "no")], stream))
}

/// The header by which nginx passes a stream on at once, instead of collecting a buffer of it.
type NotBuffered = [(&'static str, &'static str); 1];

/// The host's end of a stream.
struct Watcher {
    notices: Receiver<Notice>,
    wanted: Notice,
    place: OpenStream,
    looks: Interval,
    session: [u8; 32],
    tenant: TenantId,
    state: Arc<ApiState>,
}

impl Watcher {
    /// Waits for the next event. None: the stream has ended. Without a watcher the event is the last one.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Option<Self>)> {
        loop {
            let is_news = tokio::select! {
                () = self.place.displaced() => {
                    return Some((Ok(Event::default().retry(DISPLACED_RETRY)), None));
                }
                _ = self.looks.tick() => false,
                notice = self.notices.recv() => match notice {
                    Ok(notice) => notice == self.wanted,
                    // It missed some: there is something to see.
                    Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => return None,
                },
            };
            if !self.may_see() {
                return None;
            }
            if is_news {
                return Some((Ok(Event::default().data("look")), Some(self)));
            }
        }
    }

    fn may_see(&self) -> bool {
        let session = self.state.store.catalog().session(&self.session);
        session.is_some_and(|(_, key)| Access::<ToRead>::of(key, &self.tenant.0, &self.state).is_ok())
    }
}
