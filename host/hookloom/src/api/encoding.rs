//! Content encodings of request bodies (RFC 9110 §8.4): gzip is decoded, others are refused.
//!
//! # Guarantees
//! - Decoded bytes are charged to the budget for bodies before they are produced, and are at most as many as the route accepts. A
//!   small body that would become gigabytes is refused.
//! - The first bytes decide, not the header: JSON never begins like gzip, and proxies may change one without the other.

use super::exchange::charged;
use super::exchange::{Exchange, over_budget};
use crate::cpu_pool::{CpuPool, CpuPoolError};
use crate::limits::shortened;
use crate::operations::Problem;
use crate::subscription::TenantId;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, StatusCode, header};
use std::io::Read as _;

/// First bytes of a gzip member (RFC 1952 §2.3.1) with the only defined compression method.
const GZIP: &[u8] = b"\x1f\x8b\x08";

/// Maximum number of bytes to which one byte of deflated data can expand.
const RATIO_MAX: usize = 1_032;

/// Maximum size of a body that is decoded on a network thread, in bytes. Larger ones are decoded on the CPU pool.
const DECODED_IN_PLACE_MAX: usize = 512 << 10;

/// Maximum length of an encoding's name in a message, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// Fault of decoding a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    /// The encoding is not gzip.
    #[error("the content encoding {0:?} is not supported")]
    Unknown(String),
    /// The gzip data is invalid or incomplete.
    #[error("the body is not a complete gzip stream")]
    Broken(#[source] std::io::Error),
    /// The decoded body is larger than the route accepts.
    #[error("the body has more than {0} bytes once it is decompressed, and this host accepts no more")]
    TooLarge(usize),
    /// The budget has no room for the decoded body.
    #[error("there is no memory to decompress the body")]
    NoMemory,
    /// The CPU pool failed.
    #[error(transparent)]
    CpuPool(#[from] CpuPoolError),
}

impl DecodeError {
    /// Returns true if the fault says nothing about the body, which may be decoded another time.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, DecodeError::NoMemory | DecodeError::CpuPool(_))
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        let detail = crate::describe(&error);
        match error {
            DecodeError::Unknown(_) => Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown-encoding", detail)
                .remedy("send the body as it is, or with `Content-Encoding: gzip`"),
            DecodeError::Broken(_) => Problem::new(StatusCode::BAD_REQUEST, "broken-encoding", detail)
                .remedy("send the whole stream, or the body without an encoding"),
            DecodeError::TooLarge(_) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
                .remedy("send less at once, or let the operator raise the cap (event_bytes_max, batch_bytes_max)"),
            DecodeError::NoMemory => over_budget(),
            DecodeError::CpuPool(error) => error.into(),
        }
    }
}

/// Decodes a body to at most `most` bytes.
pub(super) async fn decode(
    exchange: &Exchange,
    cpu: &CpuPool,
    tenant: &TenantId,
    body: Bytes,
    headers: &HeaderMap,
    most: usize,
) -> Result<Bytes, DecodeError> {
    if !body.starts_with(GZIP) {
        return check_encodings(headers).map(|()| body);
    }
    let room = most.min(body.len().saturating_mul(RATIO_MAX));
    let mut charge = exchange.charge(room as u64).ok_or(DecodeError::NoMemory)?;
    let decoded = if room <= DECODED_IN_PLACE_MAX {
        gunzip(&body, most)
    } else {
        cpu.run(Some(tenant), move || gunzip(&body, most)).await?
    }?;
    // Returns the unused part of the charge.
    let kept = charge.split(decoded.len() as u64).unwrap_or(charge);
    Ok(charged(decoded, kept))
}

/// Refuses a body whose header names another encoding than gzip. A body with the header gzip that is not gzip was decoded on its
/// way.
fn check_encodings(headers: &HeaderMap) -> Result<(), DecodeError> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    for line in lines {
        let line = String::from_utf8_lossy(line.as_bytes());
        fn is_known(name: &str) -> bool {
            ["", "identity", "gzip", "x-gzip"].iter().any(|known| name.eq_ignore_ascii_case(known))
        }
        if let Some(other) = line.split(',').map(str::trim).find(|name| !is_known(name)) {
            return Err(DecodeError::Unknown(shortened(other, NAME_BYTES_MAX)));
        }
    }
    Ok(())
}

fn gunzip(body: &[u8], most: usize) -> Result<Vec<u8>, DecodeError> {
    let mut decoded = Vec::new();
    let mut reader = MultiGzDecoder::new(body).take(most as u64 + 1);
    reader.read_to_end(&mut decoded).map_err(DecodeError::Broken)?;
    if decoded.len() > most { Err(DecodeError::TooLarge(most)) } else { Ok(decoded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn gzip_is_undone_up_to_a_size() {
        #[track_caller]
        fn check(body: &[u8], most: usize, expected: Result<&[u8], &str>) {
            let result = gunzip(body, most).map_err(|error| error.to_string());
            assert_eq!(result.as_deref().map_err(String::as_str), expected);
        }
        check(&gzip(b"{}"), 2, Ok(b"{}"));
        check(
            &gzip(b"{}"),
            1,
            Err("the body has more than 1 bytes once it is decompressed, and this host accepts no more"),
        );
        check(&[gzip(b"{"), gzip(b"}")].concat(), 2, Ok(b"{}"));
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert!(bomb.len() > (64 << 20) / RATIO_MAX, "the largest ratio is no larger");
        check(
            &bomb,
            100,
            Err("the body has more than 100 bytes once it is decompressed, and this host accepts no more"),
        );
        let whole = gzip(b"{\"a\":1}");
        for cut in 3..whole.len() {
            check(&whole[..cut], 100, Err("the body is not a complete gzip stream"));
        }
        check(&[&whole[..], b"x"].concat(), 100, Err("the body is not a complete gzip stream"));
    }

    #[test]
    fn other_encodings_are_refused_by_name() {
        #[track_caller]
        fn check(lines: &[&str], expected: Option<&str>) {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, line.parse().expect("a value"));
            }
            let refused = match check_encodings(&headers) {
                Err(DecodeError::Unknown(name)) => Some(name),
                _ => None,
            };
            assert_eq!(refused.as_deref(), expected, "{lines:?}");
        }
        check(&[], None);
        check(&["identity", "GZIP, x-gzip,"], None);
        check(&["gzip, br"], Some("br"));
        check(&["gzip", "zstd"], Some("zstd"));
        check(&["deflate"], Some("deflate"));
    }
}
