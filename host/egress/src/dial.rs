//! Connections to one of several vetted addresses, and the distinction between faults of this host and of the receiver.
//!
//! Addresses are tried in the order of the DNS answer; the next one is tried when the previous one has failed or has taken
//! [`STAGGER`] (RFC 8305 section 5). If none connects, the error of a reachable address is returned rather than a fault of this
//! host: a receiver that refuses connections over IPv4 is not excused by a missing IPv6 route.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::io::Errno;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time after which the next address is tried in parallel.
const STAGGER: Duration = Duration::from_millis(250);

/// System errors that say nothing about a receiver: this host has no file descriptor, memory, buffer, local port, permission or
/// route.
///
/// `EHOSTUNREACH` is not among them: on a local network it means that the receiver's machine does not answer.
const LOCAL_FAULTS: [Errno; 12] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOBUFS,
    Errno::NOMEM,
    Errno::AGAIN,
    Errno::ADDRNOTAVAIL,
    Errno::ADDRINUSE,
    Errno::NETUNREACH,
    Errno::NETDOWN,
    Errno::AFNOSUPPORT,
    Errno::PERM,
    Errno::ACCESS,
];

/// Returns whether an error is a fault of this host.
pub(super) fn is_local_fault(error: &Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| LOCAL_FAULTS.contains(&errno))
}

/// Connects to the first address that answers.
pub(super) async fn dial(addresses: Vec<SocketAddr>) -> Result<TcpStream, Error> {
    let mut waiting = addresses.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => under_way.push(connect(address)),
            None if under_way.is_empty() => break,
            None => {}
        }
        let ended = if waiting.len() == 0 {
            under_way.next().await
        } else {
            match timeout(STAGGER, under_way.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = Some(more_telling(failure, error)),
            None => {}
        }
    }
    Err(failure.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "the name has no addresses")))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns the first error that is not a fault of this host, or else the first error.
fn more_telling(first: Option<Error>, new: Error) -> Error {
    match first {
        Some(first) if !is_local_fault(&first) || is_local_fault(&new) => first,
        _ => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use tokio::net::TcpListener;

    fn error(errno: Errno) -> Error {
        Error::from(errno)
    }

    #[test]
    fn local_faults_are_not_the_receivers() {
        for errno in LOCAL_FAULTS {
            assert!(is_local_fault(&error(errno)), "{errno:?}");
        }
        for errno in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::PIPE] {
            assert!(!is_local_fault(&error(errno)), "{errno:?}");
        }
        assert!(!is_local_fault(&Error::other("TLS")));
    }

    #[test]
    fn a_receiver_that_refuses_is_not_excused_by_a_missing_route() {
        #[track_caller]
        fn check(errors: &[Errno], expected: Errno) {
            let result = errors.iter().fold(None, |first, errno| Some(more_telling(first, error(*errno))));
            assert_eq!(result.as_ref().and_then(Errno::from_io_error), Some(expected));
        }
        check(&[Errno::CONNREFUSED, Errno::NETUNREACH], Errno::CONNREFUSED);
        check(&[Errno::NETUNREACH, Errno::CONNREFUSED], Errno::CONNREFUSED);
        check(&[Errno::NETUNREACH, Errno::MFILE], Errno::NETUNREACH);
        check(&[Errno::TIMEDOUT, Errno::CONNREFUSED], Errno::TIMEDOUT);
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_used() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let open = listener.local_addr().expect("bound");
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket").local_addr().expect("bound");
        // Documentation addresses (RFC 5737, RFC 3849): nobody answers, or there is no route.
        let silent = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
        let silent_too = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9));
        let stream = dial(vec![closed, silent_too, silent, open]).await.expect("one is open");
        assert_eq!(stream.peer_addr().expect("connected"), open);
        assert!(stream.nodelay().expect("an option"));
        assert_eq!(dial(vec![closed]).await.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
        assert_eq!(dial(Vec::new()).await.expect_err("none").kind(), ErrorKind::NotFound);
    }
}
