//! Socket of a connection, which reports progress to the connection's [`Activity`].
//!
//! After the idle timeout ([`ClientSocket::end`]), the next read without data ends the sending direction. Reading continues for a
//! while: a request that crossed the end is handled, and its answer is discarded.

use super::connections::Activity;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Socket with recorded progress.
pub(super) struct ClientSocket {
    stream: TcpStream,
    activity: Arc<Activity>,
    end: Arc<AtomicBool>,
    /// True once the sending direction has ended.
    has_ended: bool,
}

impl ClientSocket {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        ClientSocket { stream, activity, end: Arc::default(), has_ended: false }
    }

    /// Returns the flag that is set after the idle timeout, and checked by the next read.
    pub(super) fn end(&self) -> Arc<AtomicBool> {
        self.end.clone()
    }

    /// Ends the sending direction, if the flag is set and nothing was received meanwhile.
    fn end_if_idle(&mut self) {
        if self.end.swap(false, Ordering::Relaxed) && self.activity.begin_end() {
            let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
            self.has_ended = true;
        }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.activity.sent(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.cannot_send(),
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buf);
        if read.is_ready() {
            self.activity.received(buf.filled().len() - before);
            self.end.store(false, Ordering::Relaxed);
        } else {
            self.end_if_idle();
        }
        read
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.has_ended {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.has_ended {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called by hyper when its buffer is empty. A TCP socket has nothing to flush.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.activity.sent_all();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
