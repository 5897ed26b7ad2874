//! Word for open pages that something happened (server-sent events, WHATWG HTML §9.2): a page then takes its regions anew.

use super::Refused;
use super::user::TenantUser;
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::store::Notice;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// What a page watches: `attempts`, or a bin by its id.
#[derive(Deserialize)]
pub(super) struct Watched {
    topic: String,
}

/// Watches until the page is left.
pub(super) async fn watch(
    user: TenantUser,
    Params(Watched { topic }): Params<Watched>,
    State(state): State<Arc<ApiState>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    let wanted = match topic.as_str() {
        "attempts" => Notice::Attempt(user.tenant.clone()),
        bin => Notice::Bin(state.store.bin(user.tenant.clone(), bin.to_owned()).await?.id),
    };
    let notices = state.store.watch();
    let stream = futures_util::stream::unfold((notices, wanted), |(mut notices, wanted)| async move {
        loop {
            match notices.recv().await {
                Ok(notice) if notice == wanted => break,
                Ok(_) => {}
                // It missed some: there is something to see.
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return None,
            }
        }
        Some((Ok(Event::default().data("look")), (notices, wanted)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}
