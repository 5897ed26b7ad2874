//! Verdicts and failures.

use crate::run::{Body, Call, Failure, Outcome, Outgoing, Verdict, types};

/// Body of a script's `transform` and what it answers.
#[track_caller]
fn check(body: &str, expected: &str) {
    let script = format!("export function transform(event) {{ {body} }}");
    assert_eq!(shown(&script), expected, "{body}");
}

/// Runs a script on a deal, and writes its answer on one line.
pub(crate) fn shown(script: &str) -> String {
    match Call::of(script).run().outcome {
        Outcome::Answer(Ok(verdict)) => verdict_text(verdict),
        Outcome::Answer(Err(failure)) => match failure {
            Failure::InvalidEvent(reason) => reason_text("invalid-event", reason),
            Failure::Transient(reason) => reason_text("transient", reason),
            Failure::BadConfig(reason) => reason_text("bad-config", reason),
        },
        Outcome::Error(error) => format!("error: {}", error.message),
        Outcome::Trap(trap) => format!("trap: {trap}"),
    }
}

fn reason_text(kind: &str, types::Reason { code, message }: types::Reason) -> String {
    format!("{kind} {code:?} {message:?}")
}

fn verdict_text(verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Drop(reason) => reason_text("drop", reason),
        Verdict::Later(later) => reason_text(&format!("later {}", later.delay_ms), later.reason),
        Verdict::Replace(mut all) => {
            let Outgoing { body, content_type, headers, url, attributes } = all.remove(0);
            assert!(all.is_empty() && attributes.is_empty());
            let body = match body {
                Body::Text(text) => text,
                Body::Binary(bytes) => format!("{bytes:?}"),
            };
            let more = [content_type.map(|one| format!("type={one}")), url.map(|one| format!("url={one}"))];
            let headers = headers.into_iter().map(|header| format!("{}={}", header.name, header.value));
            let parts = std::iter::once(body).chain(more.into_iter().flatten()).chain(headers);
            parts.collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn verdicts() {
    check("return pass()", "pass");
    check(r#"return drop("too-small")"#, r#"drop "too-small" """#);
    check(r#"return drop("too small for us")"#, r#"drop "script" "too small for us""#);
    check(r#"return drop("small", "worth less than 1,000")"#, r#"drop "small" "worth less than 1,000""#);
    check(r#"return later(1500.2, "office-hours")"#, r#"later 1501 "office-hours" """#);
    check("return later(60_000)", r#"later 60000 "later" """#);
    check("return later(1e300)", r#"later 18446744073709551615 "later" """#);
}

#[test]
fn replaced_bodies() {
    check("return replace({ name: event.payload.eventData.name })", r#"{"name":"deal plane"}"#);
    check("return replace([1, null, true])", "[1,null,true]");
    check("return replace(null)", "null");
    check(r#"return replace("as it is", { contentType: "text/plain" })"#, "as it is type=text/plain");
    check(
        r#"return replace("x", { headers: { "Content-Type": "text/csv", "x-a": 1, "x-b": true } })"#,
        "x type=text/csv x-a=1 x-b=true",
    );
    check(r#"return replace({}, { url: "https://example.com/x" })"#, "{} url=https://example.com/x");
    check(r#"return replace(new Uint8Array([1, 255]), { contentType: "a/b" })"#, "[1, 255] type=a/b");
    check(
        r#"return replace(new Uint8Array([9, 1, 255, 9]).buffer.slice(1, 3), { contentType: "a/b" })"#,
        "[1, 255] type=a/b",
    );
    check(
        r#"return replace(new Uint8Array([9, 1, 255, 9]).subarray(1, 3), { contentType: "a/b" })"#,
        "[1, 255] type=a/b",
    );
    check("return replace({ n: 12345678901234567890n })", r#"{"n":12345678901234567890}"#);
    check("const b = { a: 1 }; const r = replace(b); b.a = 2; return r", r#"{"a":1}"#);
}

#[test]
fn failures_are_thrown_or_returned() {
    check(
        r#"throw badConfig("no-region", "the key region is missing")"#,
        r#"bad-config "no-region" "the key region is missing""#,
    );
    check(r#"return invalidEvent("no-email")"#, r#"invalid-event "no-email" """#);
    check(r#"throw transient("not yet there")"#, r#"transient "script" "not yet there""#);
}

/// Returns the error of a script that returns a value of this kind.
fn returned(kind: &str) -> String {
    format!(
        "error: transform must return pass(), replace(…), drop(…) or later(…). It returned {kind}, which is none of these"
    )
}

#[test]
fn answers_that_are_none() {
    check(
        "",
        "error: transform must return pass(), replace(…), drop(…) or later(…). It returned nothing: is a return missing?",
    );
    check("return { text: 1 }", &returned("an object"));
    check("return null", &returned("null"));
    check("return [pass()]", &returned("an array"));
    check("return pass", &returned("a function"));
    check("return { tag: 'pass' }", &returned("an object"));
    check("return Object.create(pass())", &returned("an object"));
    check("return new Proxy(pass(), {})", &returned("an object"));
}

#[test]
fn arguments_that_make_no_answer() {
    check("return drop()", r#"error: TypeError: drop takes texts: drop("code") or drop("code", "message")"#);
    check("return later('1')", r#"error: TypeError: later takes how many milliseconds to wait: later(60000, "why")"#);
    check("return later(-1)", r#"error: TypeError: later takes how many milliseconds to wait: later(60000, "why")"#);
    check("return replace()", "error: TypeError: the body of replace is undefined, which has no JSON");
    check(
        "return replace({}, { header: {} })",
        "error: TypeError: replace has no option header: there are headers, url and contentType",
    );
    check("return replace({}, { headers: { a: {} } })", "error: TypeError: the header a is an object, not a text");
    check(
        "return replace({}, { headers: [] })",
        r#"error: TypeError: the headers of replace are an object: { "x-source": "crm" }"#,
    );
    check("return replace({}, { url: 1 })", "error: TypeError: url of replace is a number, not a text");
    check("return replace(new Uint8Array(1))", "error: TypeError: replace with bytes needs the option contentType");
    check("const a = {}; a.a = a; return replace(a)", "error: TypeError: circular reference");
}

#[test]
fn promises_are_awaited() {
    assert_eq!(shown("export async function transform() { await null; return drop('x') }"), r#"drop "x" """#);
    assert_eq!(shown("export const transform = () => Promise.resolve().then(() => pass())"), "pass");
    assert_eq!(
        shown("const region = await Promise.resolve('eu'); export const transform = () => drop(region)"),
        r#"drop "eu" """#
    );
    assert_eq!(shown("export const transform = async () => { throw badConfig('x') }"), r#"bad-config "x" """#);
    assert_eq!(
        shown("export const transform = () => new Promise(() => {})"),
        "error: Error: the script awaits a promise that nothing settles: there are no timers and no network"
    );
}
