//! Discards the rest of a body whose request was refused, so that the sender reads the refusal.
//!
//! If a server answers before it has read a body, and closes the connection, the sender's kernel fails the write or discards the
//! answer (RFC 9112 §9.6 describes the reset): the sender of 40 MiB would see a broken pipe instead of `413`. The discarded part is
//! bounded in bytes and time; beyond that, the connection breaks. The refusal is not delayed.
//!
//! A sender that asks first (`Expect: 100-continue`) and is refused sends no body.

use axum::Router;
use axum::body::Bytes;
use axum::response::Response;
use http::{Request, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service as _;

/// Bounds of the discarded part: bytes, and time.
const BYTES_MAX: usize = 128 << 20;
const DEADLINE: Duration = Duration::from_secs(10);

/// Answers a request. If the answer is not a success, the rest of the body is discarded meanwhile.
pub(super) async fn answer(mut router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    if request.body().is_end_stream() {
        return router.call(request).await;
    }
    let expects = request.headers().get(header::EXPECT);
    let asks_first = expects.is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (parts, body) = request.into_parts();
    let reader = SharedBodyReader(Arc::new(Mutex::new(SharedBody { body, begun: !asks_first })));
    let response = router.call(Request::from_parts(parts, reader.clone())).await?;
    let left = !reader.is_end_stream() && reader.lock().begun;
    if left && !response.status().is_success() {
        tokio::spawn(tokio::time::timeout(DEADLINE, reader.throw_away()));
    }
    Ok(response)
}

struct SharedBody {
    body: Incoming,
    /// True once the sender has begun to send the body: at once, or after `100 Continue`.
    begun: bool,
}

/// Body that the handler reads and that is shared with the discarding part.
#[derive(Clone)]
struct SharedBodyReader(Arc<Mutex<SharedBody>>);

impl SharedBodyReader {
    fn lock(&self) -> MutexGuard<'_, SharedBody> {
        self.0.lock()
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

impl Body for SharedBodyReader {
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
