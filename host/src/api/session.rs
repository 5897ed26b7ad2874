//! Signing in to the pages: links that work once, and what slows guessers down.

use super::ApiState;
use super::extract::Admin;
use super::problem::Problem;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// A link that signs in once, within a day.
#[derive(Serialize, ToSchema)]
pub(super) struct LinkBody {
    /// Behind this host's public address.
    path: String,
}

/// Make a link that signs its first user in to the pages with the key that asks for it.
#[utoipa::path(post, path = "/v1/sign-in-links", tag = "access", responses((status = 201, body = LinkBody)))]
pub(super) async fn create_link(
    Admin(key): Admin,
    State(state): State<Arc<ApiState>>,
) -> Result<(StatusCode, Json<LinkBody>), Problem> {
    let token = state.store.create_sign_in_link(key.id).await?;
    state.changed(&key, None, "sign-in-link.create", key.shown(), [None, None]).await;
    Ok((StatusCode::CREATED, Json(LinkBody { path: format!("/sign-in?token={token}") })))
}

/// Who tried to sign in in vain, by address: a guesser gets few tries, and everybody else is not held up.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<IpAddr, (u32, Instant)>>);

/// So many vain tries within [`WINDOW`] are the last for a while.
const TRIES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(300);

/// More addresses than these are not remembered apart.
const ADDRESSES_MAX: usize = 10_000;

impl Throttle {
    /// Whether this address may try.
    pub(super) fn allows(&self, address: IpAddr, now: Instant) -> bool {
        let tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tries.get(&address).is_none_or(|(count, since)| *count < TRIES_MAX || now.duration_since(*since) > WINDOW)
    }

    /// It tried in vain.
    pub(super) fn note_failure(&self, address: IpAddr, now: Instant) {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= ADDRESSES_MAX {
            tries.retain(|_, (_, since)| now.duration_since(*since) <= WINDOW);
        }
        let entry = tries.entry(address).or_insert((0, now));
        if now.duration_since(entry.1) > WINDOW {
            *entry = (0, now);
        }
        entry.0 += 1;
    }

    /// It knew a key: what came before were slips.
    pub(super) fn forget(&self, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_is_slowed_down_and_nobody_else() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let address = |last| IpAddr::from([192, 0, 2, last]);
        for _ in 0..TRIES_MAX {
            assert!(throttle.allows(address(1), now));
            throttle.note_failure(address(1), now);
        }
        assert!(!throttle.allows(address(1), now) && throttle.allows(address(2), now));
        assert!(throttle.allows(address(1), now + WINDOW + Duration::from_secs(1)), "after a while again");
        throttle.note_failure(address(1), now + WINDOW + Duration::from_secs(1));
        assert!(throttle.allows(address(1), now + WINDOW + Duration::from_secs(1)));
        throttle.forget(address(1));
        assert!(throttle.allows(address(1), now));
    }
}
