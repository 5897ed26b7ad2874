//! Numbers that JavaScript cannot hold.

use crate::run::{Body, Call, Outcome, Verdict};

const LARGE: &str = r#"{"eventName":"Contact is Created","eventData":{"id":9007199254740993,"score":12345678901234567890,"small":7,"price":0.1000000000000000055,"list":[9007199254740993,1e400]}}"#;

/// Event, expression that a script sends, and what is sent.
#[track_caller]
fn check(payload: &str, expression: &str, expected: &str) {
    let mut call = Call::of(&format!("export const transform = (event) => replace({expression})"));
    call.payload = payload.to_owned();
    call.previous = Some(r#"{"eventData":{"id":9007199254740995}}"#.to_owned());
    let sent = match call.run().outcome {
        Outcome::Answer(Ok(Verdict::Replace(mut all))) => match all.remove(0).body {
            Body::Text(text) => text,
            Body::Binary(_) => "bytes".to_owned(),
        },
        Outcome::Error(error) => error.message,
        other => panic!("{expression}: {other:?}"),
    };
    assert_eq!(sent, expected, "{expression}");
}

#[test]
fn numbers_that_the_script_did_not_touch_are_sent_as_they_came() {
    check(LARGE, "event.payload", LARGE);
    check(LARGE, "JSON.stringify(event.payload)", LARGE);
    check(
        LARGE,
        "{ ...event.payload.eventData, small: 8, list: undefined }",
        r#"{"id":9007199254740993,"score":12345678901234567890,"small":8,"price":0.1000000000000000055}"#,
    );
    check(LARGE, "event.payload.eventData.list.map((n) => ({ n }))", r#"[{"n":9007199254740993},{"n":1e400}]"#);
    check(LARGE, "JSON.parse(event.text).eventData.id", "9007199254740993");
    check(LARGE, "structuredCopy(event.payload)", "ReferenceError: structuredCopy is not defined");
    check(LARGE, "history.previous().payload", r#"{"eventData":{"id":9007199254740995}}"#);
}

#[test]
fn numbers_that_the_script_changed_are_its_own() {
    check(LARGE, "event.payload.eventData.id * 2", "18014398509481984");
    check(LARGE, "(event.payload.eventData.id = 5, event.payload.eventData.id)", "5");
    check(LARGE, "event.payload.eventData.small / 2", "3.5");
    check(LARGE, "1 / 3", "0.3333333333333333");
}

#[test]
fn numbers_that_javascript_cannot_tell_apart() {
    let two = r#"{"a":9007199254740992,"b":9007199254740993,"c":[9007199254740993]}"#;
    check(two, "event.payload", two);
    check(two, "{ ...event.payload }.c", "[9007199254740993]");
    check(
        two,
        "{ x: event.payload.b }",
        "TypeError: the event's numbers 9007199254740992 and 9007199254740993 are the same number in JavaScript: take the digits from event.text, and send them as a text",
    );
}

#[test]
fn json_stringify_keeps_its_other_arguments() {
    check(
        LARGE,
        "JSON.stringify({ b: event.payload.eventData.id, a: 1, c: 2 }, ['a', 'b'])",
        r#"{"b":9007199254740993,"a":1}"#,
    );
    check(
        LARGE,
        "JSON.stringify(event.payload.eventData, (k, v) => k === 'list' || k === 'price' ? undefined : v)",
        r#"{"id":9007199254740993,"score":12345678901234567890,"small":7}"#,
    );
    check(LARGE, "JSON.stringify([event.payload.eventData.id], null, 1)", "[\n 9007199254740993\n]");
}
