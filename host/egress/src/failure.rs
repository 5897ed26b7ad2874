//! Classification of client errors by the side at fault, with messages that say what to do.
//!
//! # Theory of operation
//! Errors are distinguished by their types, never by their texts. Four kinds of errors are not failed attempts of a delivery:
//! - a fault of this host (no descriptor, no route, no name server): see [`is_local_fault`];
//! - a request that the receiver has not processed, as the protocol or the state of the socket shows: a stream that
//!   HTTP/2 refused (RFC 9113 section 8.7) or that is beyond the last one of a GOAWAY (section 6.8), a request that was never written,
//!   a request that the client gave up or lost ([`super::connection_watch`]), a connection that was closed before the request was read ([`super::observed`]);
//! - a response with a status and an otherwise malformed head: it counts as an answer;
//! - an address that the address guard refuses, which is reported as such.

use super::dial::is_local_fault;
use super::observed::Exchanges;
use super::resolver::LookupError;
use super::salvage::Salvaged;
use super::timing::ConnectError;
use super::tls_failure;
use h2::Reason;
use hookloom_model::address::AddressError;
use hookloom_model::delivery::NoAnswer;
use hyper_util::client::legacy::Error as SendError;
use hyper_util::client::legacy::connect::Connected;
use std::error::Error as StdError;
use std::io::{Error as IoError, ErrorKind};
use std::sync::Arc;

/// Reason why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    /// The receiver or the network failed.
    #[error("{detail}")]
    Receiver {
        /// Kind of failure.
        kind: NoAnswer,
        /// Message, without the URL's query.
        detail: String,
    },
    /// This host could not send the request, which says nothing about the receiver.
    #[error("{detail}")]
    Host {
        /// Message for the operator.
        detail: String,
    },
}

impl NotAnswered {
    pub(super) fn of(kind: NoAnswer, detail: impl Into<String>) -> Self {
        NotAnswered::Receiver { kind, detail: detail.into() }
    }
}

impl From<&AddressError> for NotAnswered {
    fn from(error: &AddressError) -> Self {
        NotAnswered::of(NoAnswer::AddressRefused, error.to_string())
    }
}

impl From<&LookupError> for NotAnswered {
    fn from(error: &LookupError) -> Self {
        // The cause names the name servers, which only the operator may see.
        tracing::debug!(error = %hookloom_model::describe(error), "a name did not resolve");
        match error.local_fault() {
            Some(fault) => {
                NotAnswered::Host { detail: format!("this host cannot ask its name servers: {}", describe(fault)) }
            }
            None => NotAnswered::of(NoAnswer::Dns, error.to_string()),
        }
    }
}

/// Result of a request without an answer that hyper accepts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SendFailure {
    /// There is no answer.
    NotAnswered(NotAnswered),
    /// The receiver has not processed the request, which can be sent again at once.
    NotProcessed(&'static str),
    /// A malformed answer has a readable status.
    Salvaged(Salvaged),
}

impl From<NotAnswered> for SendFailure {
    fn from(error: NotAnswered) -> Self {
        SendFailure::NotAnswered(error)
    }
}

/// Classifies a client error by its causes. The message leaves out the URL, because query strings may hold keys.
pub(super) fn classify(error: &SendError) -> SendFailure {
    let causes = causes(error);
    if let Some(error) = find::<AddressError>(&causes) {
        return NotAnswered::from(error).into();
    }
    if let Some(error) = find::<LookupError>(&causes) {
        return NotAnswered::from(error).into();
    }
    let io =
        causes.iter().find_map(|cause| cause.downcast_ref::<IoError>().filter(|error| error.raw_os_error().is_some()));
    if let Some(fault) = io.filter(|error| is_local_fault(error)) {
        return NotAnswered::Host { detail: format!("this host cannot connect: {}", describe(fault)) }.into();
    }
    let exchanges = exchanges(error);
    if let Some(why) = not_processed(error, &causes, exchanges.as_deref()) {
        return SendFailure::NotProcessed(why);
    }
    let refused_head = find::<hyper::Error>(&causes).is_some_and(hyper::Error::is_parse);
    if let Some(salvaged) = exchanges.filter(|_| refused_head).and_then(|exchanges| exchanges.salvage()) {
        return SendFailure::Salvaged(salvaged);
    }
    if let Some(error) = find::<rustls::Error>(&causes) {
        return NotAnswered::of(NoAnswer::Connect, format!("no TLS connection: {}", tls_failure::describe(error)))
            .into();
    }
    let kind = if error.is_connect() { NoAnswer::Connect } else { NoAnswer::Broken };
    let what = if error.is_connect() { "no connection" } else { "the connection broke" };
    let why = match (io, causes.last()) {
        (Some(error), _) => describe(error),
        (None, Some(innermost)) => innermost.to_string(),
        (None, None) => "the request failed".to_owned(),
    };
    NotAnswered::of(kind, format!("{what}: {why}")).into()
}

/// Returns the reason why the receiver cannot have processed the request, if there is one.
fn not_processed(
    error: &SendError,
    causes: &[&(dyn StdError + 'static)],
    exchanges: Option<&Exchanges>,
) -> Option<&'static str> {
    let is_of_connection = error.connect_info().is_some() || find::<hyper::Error>(causes).is_some();
    if !is_of_connection && find::<ConnectError>(causes).is_none() {
        // From the client's pool: the connection of another request, for which this one waited, has ended.
        return Some("the connection was closed before the request was sent");
    }
    if let Some(error) = find::<h2::Error>(causes).filter(|error| error.is_remote()) {
        if error.is_go_away() {
            return Some("the receiver closed the HTTP/2 connection before it took the request (GOAWAY)");
        }
        if error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM) {
            return Some("the receiver refused the HTTP/2 stream before it took the request (REFUSED_STREAM)");
        }
    }
    // HTTP/2 drops a request that waits for a free stream when its connection ends. Without a stream, no body was sent.
    let is_http2 = error.connect_info().is_some_and(Connected::is_negotiated_h2);
    if find::<hyper::Error>(causes).is_some_and(|error| error.is_canceled() || (is_http2 && error.is_user())) {
        return Some("the receiver closed the connection before the request was sent");
    }
    exchanges
        .filter(|exchanges| exchanges.is_unread())
        .map(|_| "the receiver closed a connection that it had kept open, before it read the request")
}

fn exchanges(error: &SendError) -> Option<Arc<Exchanges>> {
    let mut extensions = http::Extensions::new();
    error.connect_info()?.get_extras(&mut extensions);
    extensions.remove::<Arc<Exchanges>>()
}

fn find<'a, E: StdError + 'static>(causes: &[&'a (dyn StdError + 'static)]) -> Option<&'a E> {
    causes.iter().find_map(|cause| cause.downcast_ref::<E>())
}

/// Returns all causes of an error. `source` of an I/O error skips the error that it wraps.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    std::iter::successors(cause_of(error), |cause| cause_of(*cause)).collect()
}

fn cause_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<IoError>().and_then(IoError::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// Message for an I/O error that says what to check.
fn describe(error: &IoError) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused; nothing listens at that address and port".to_owned(),
        ErrorKind::ConnectionReset => "the other end reset the connection".to_owned(),
        ErrorKind::BrokenPipe => "the other end closed the connection".to_owned(),
        ErrorKind::TimedOut => "the other end did not answer in time".to_owned(),
        ErrorKind::HostUnreachable => "no machine answers at that address (no route to host)".to_owned(),
        ErrorKind::NetworkUnreachable => "no route to the network of that address".to_owned(),
        ErrorKind::AddrNotAvailable => "no local address or port is free".to_owned(),
        // The system's message, without the error number.
        _ => match error.to_string().split_once(" (os error") {
            Some((words, _)) => words.to_lowercase(),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn the_causes_of_an_io_error_are_seen() {
        let error = IoError::other(IoError::new(ErrorKind::InvalidData, rustls::Error::DecryptError));
        let outer = std::io::Error::other(error);
        assert_eq!(find::<rustls::Error>(&causes(&outer)), Some(&rustls::Error::DecryptError));
        assert_eq!(causes(&IoError::from(Errno::MFILE)).len(), 0);
    }

    #[test]
    fn io_errors_are_described_plainly() {
        #[track_caller]
        fn check(errno: Errno, expected: &str) {
            assert_eq!(describe(&IoError::from(errno)), expected);
        }
        check(Errno::MFILE, "too many open files");
        check(Errno::NFILE, "too many open files in system");
        check(Errno::NOBUFS, "no buffer space available");
        check(Errno::NETUNREACH, "no route to the network of that address");
        check(Errno::ADDRNOTAVAIL, "no local address or port is free");
        check(Errno::CONNREFUSED, "connection refused; nothing listens at that address and port");
    }
}
