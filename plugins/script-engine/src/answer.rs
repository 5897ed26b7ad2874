//! Answers of scripts, as `prelude.js` hands them over, in the contract's types.

use crate::bindings::hookloom::plugin::types::{Body, Failure, Header, Outgoing, Postponement, Reason, Verdict};
use crate::hexadecimal::bytes;
use rquickjs::{Array, FromJs};

/// Result of a call.
pub(crate) enum Answer {
    /// The contract's answer.
    Judged(Result<Verdict, Failure>),
    /// A message to the author: the returned value is no answer.
    Wrong(String),
    /// An error: its message and QuickJS's stack.
    Error(String, String),
}

/// Code of a reason that the script gave only as a sentence.
const CODE: &str = "script";

/// Reads an array of `prelude.js`: the kind of the answer, then its parts.
pub(crate) fn read(parts: &Array<'_>) -> rquickjs::Result<Answer> {
    let kind: String = parts.get(0)?;
    Ok(match kind.as_str() {
        "pass" => Answer::Judged(Ok(Verdict::Pass)),
        "drop" => Answer::Judged(Ok(Verdict::Drop(reason(parts.get(1)?)?))),
        "later" => {
            let delay: f64 = parts.get(1)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates; checked to be 0 or more"
            )]
            let delay_ms = delay as u64;
            Answer::Judged(Ok(Verdict::Later(Postponement { delay_ms, reason: reason(parts.get(2)?)? })))
        }
        "text" => replaced(parts, Body::Text(parts.get(1)?))?,
        "bytes" => {
            let digits: String = parts.get(1)?;
            replaced(parts, Body::Binary(bytes(&digits)))?
        }
        "invalid-event" => Answer::Judged(Err(Failure::InvalidEvent(reason(parts.get(1)?)?))),
        "transient" => Answer::Judged(Err(Failure::Transient(reason(parts.get(1)?)?))),
        "bad-config" => Answer::Judged(Err(Failure::BadConfig(reason(parts.get(1)?)?))),
        "wrong" => Answer::Wrong(parts.get(1)?),
        _ => Answer::Error(parts.get(1)?, parts.get(2)?),
    })
}

fn replaced(parts: &Array<'_>, body: Body) -> rquickjs::Result<Answer> {
    let headers: Array<'_> = parts.get(3)?;
    let mut outgoing = Outgoing {
        body,
        content_type: parts.get(2)?,
        headers: Vec::with_capacity(headers.len()),
        url: parts.get(4)?,
        attributes: Vec::new(),
    };
    for header in headers.iter::<Array<'_>>() {
        let header = header?;
        outgoing.headers.push(Header { name: header.get(0)?, value: header.get(1)? });
    }
    Ok(Answer::Judged(Ok(Verdict::Replace(vec![outgoing]))))
}

/// Reads a reason: a code and a message, or one text that is either.
fn reason(parts: Array<'_>) -> rquickjs::Result<Reason> {
    let first: String = parts.get(0)?;
    let message = Option::<String>::from_js(parts.ctx(), parts.get(1)?)?;
    Ok(match message {
        Some(message) => Reason { code: first, message },
        None if is_code(&first) => Reason { code: first, message: String::new() },
        None => Reason { code: CODE.to_owned(), message: first },
    })
}

fn is_code(text: &str) -> bool {
    text.len() <= 64 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
