//! Reads and discards the rest of a body whose request was refused, so that its sender reads the refusal.
//!
//! A server that answers before it has read a body, and closes, makes the sender's kernel fail the write or discard the answer
//! (RFC 9112 §9.6 describes the reset): a sender of 40 MiB would see a broken pipe where `413` says what to do. The discarded
//! part is bounded in bytes and time; beyond that the connection breaks. The refusal itself does not wait for any of it.
//!
//! A sender that asks first (`Expect: 100-continue`) and is refused sends no body, and is not asked for one.

use axum::Router;
use axum::body::Bytes;
use axum::response::Response;
use http::{Request, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service as _;

/// Bounds of the part of a refused body that is read: bytes, and time.
const BYTES_MAX: usize = 128 << 20;
const DEADLINE: Duration = Duration::from_secs(10);

/// Answers a request. If the answer is no success, what its body has left is read meanwhile.
pub(super) async fn answer(mut router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    if request.body().is_end_stream() {
        return router.call(request).await;
    }
    let expects = request.headers().get(header::EXPECT);
    let asks_first = expects.is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (parts, body) = request.into_parts();
    let lent = Lent(Arc::new(Mutex::new(SharedBody { body, begun: !asks_first })));
    let response = router.call(Request::from_parts(parts, lent.clone())).await?;
    let left = !lent.is_end_stream() && lent.lock().begun;
    if left && !response.status().is_success() {
        tokio::spawn(tokio::time::timeout(DEADLINE, lent.throw_away()));
    }
    Ok(response)
}

struct SharedBody {
    body: Incoming,
    /// True once the sender sends the body: at once, or after `100 Continue`.
    begun: bool,
}

/// A body that the handler reads as if it were its own.
#[derive(Clone)]
struct Lent(Arc<Mutex<SharedBody>>);

impl Lent {
    fn lock(&self) -> MutexGuard<'_, SharedBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn throw_away(mut self) {
        let mut bytes = 0;
        while bytes < BYTES_MAX {
            match std::future::poll_fn(|context| Pin::new(&mut self).poll_frame(context)).await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                _ => return,
            }
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut shared = self.lock();
        shared.begun = true;
        Pin::new(&mut shared.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
