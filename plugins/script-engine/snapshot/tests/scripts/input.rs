//! Input of a script: the event, config, secrets, history, clock, random numbers, and the console.

use crate::answers::shown;
use crate::run::{Call, DEAL, Outcome, Verdict};

#[track_caller]
fn check(expression: &str, expected: &str) {
    assert_eq!(shown(&format!("export const transform = (event) => replace({expression})")), expected, "{expression}");
}

#[test]
fn the_event() {
    check("Object.keys(event)", r#"["id","name","module","entityId","receivedAt","payload","text","settled"]"#);
    check(
        "[event.id, event.name, event.module, event.entityId, event.receivedAt]",
        r#"["01935d2c-0000-7000-8000-000000000001","Opportunity is Created","Deal","5721670354468864",1700000000123]"#,
    );
    check("event.text", DEAL);
    check("event.payload", DEAL);
}

#[test]
fn the_events_of_a_burst() {
    let mut call = Call::of(
        "export const transform = (event) => drop(JSON.stringify([event.settled, event.settled?.events + 1]))",
    );
    assert_eq!(dropped_for(&call), "[null,null]");
    call.attributes = [("other", "x"), ("settled-events", "3"), ("settled-since", "1700000000000")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    assert_eq!(dropped_for(&call), r#"[{"events":3,"since":1700000000000},4]"#);
}

#[test]
fn what_is_there() {
    check("btoa('hookloom')", "aG9va2xvb20=");
    check(
        "[typeof fetch, typeof setTimeout, typeof require, typeof process]",
        r#"["undefined","undefined","undefined","undefined"]"#,
    );
    check("/(?<y>\\d{4})/.exec('in 2026').groups.y", "2026");
    check("Object.groupBy([1, 2], (n) => n % 2 ? 'odd' : 'even')", r#"{"odd":[1],"even":[2]}"#);
    check("new Date(0).toISOString()", "1970-01-01T00:00:00.000Z");
}

#[test]
fn config_is_read_by_key() {
    let mut call =
        Call::of("export const transform = () => drop(`${config.region} ${config.none} ${'region' in config}`)");
    call.config = vec![("region".to_owned(), "eu".to_owned()), ("other".to_owned(), "x".to_owned())];
    let ran = call.run();
    match ran.outcome {
        Outcome::Answer(Ok(Verdict::Drop(reason))) => assert_eq!(reason.message, "eu undefined true"),
        other => panic!("{other:?}"),
    }
    assert_eq!(ran.config_reads, ["region", "none", "region"]);
    call.script = "export const transform = () => replace({ ...config, keys: Object.keys(config) })".to_owned();
    match call.run().outcome {
        Outcome::Answer(Ok(Verdict::Replace(all))) => {
            assert!(
                format!("{all:?}").contains(r#"{\"region\":\"eu\",\"other\":\"x\",\"keys\":[\"region\",\"other\"]}"#),
                "{all:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    check("(() => { try { config.a = 1 } catch (e) { return e.message } })()", "config cannot be changed by a script");
}

#[test]
fn a_script_without_config_reads_none() {
    assert!(Call::of("export const transform = () => pass()").run().config_reads.is_empty());
}

#[test]
fn secrets() {
    check("secrets.hmacSha256('key', 'ab').toHex()", "6b65796162");
    check("secrets.hmacSha256('key', new Uint8Array([0, 255])).toBase64()", "a2V5AP8=");
    check(
        "(() => { try { secrets.hmacSha256('x', '') } catch (e) { return e.message } })()",
        r#"the subscription has no secret "x""#,
    );
    check(
        "(() => { try { secrets.hmacSha256('locked', '') } catch (e) { return e.message } })()",
        "the subscription does not let its plugins use secrets",
    );
    check("(() => { try { secrets.hmacSha256('key', 1) } catch (e) { return e.name } })()", "TypeError");
}

/// Returns the message of the reason for which a script drops its event, or the code if it has none.
fn dropped_for(call: &Call) -> String {
    match call.run().outcome {
        Outcome::Answer(Ok(Verdict::Drop(reason))) if reason.message.is_empty() => reason.code,
        Outcome::Answer(Ok(Verdict::Drop(reason))) => reason.message,
        other => panic!("{other:?}"),
    }
}

/// Returns the code of the reason for which a script drops its event.
fn dropped(call: &Call) -> String {
    match call.run().outcome {
        Outcome::Answer(Ok(Verdict::Drop(reason))) => reason.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn history() {
    let mut call = Call::of(
        "export const transform = () => { const p = history.previous(); return drop(String(p && p.payload.eventData.name)) }",
    );
    assert_eq!(dropped(&call), "undefined");
    call.previous = Some(DEAL.replace("deal plane", "before"));
    assert_eq!(dropped(&call), "before");
}

#[test]
fn the_console_writes_the_log() {
    let call = Call::of(
        "export const transform = () => { console.debug('a'); console.log('b', 1, { c: [2] }, null, undefined, 3n); console.info(); \
         console.warn(Symbol('s'), () => 1); console.error(new TypeError('bad')); return pass() }",
    );
    assert_eq!(
        call.run().log,
        [
            "Debug: a",
            "Info: b 1 {\"c\":[2]} null undefined 3",
            "Info: ",
            "Warn: Symbol(s) [function () => 1]",
            "Error: TypeError: bad"
        ]
    );
}

#[test]
fn an_instance_can_be_called_again() {
    let call = Call::of(
        "let calls = 0;\n\
         export function transform(event) { calls++; if (calls === 1) throw transient('again'); return replace([calls, event.payload.id]) }",
    );
    let shown: Vec<String> =
        call.run_each(&[r#"{"id":1}"#, r#"{"id":9007199254740993}"#, r#"{"id":9007199254740992}"#]);
    assert!(shown[0].contains("Transient"), "{shown:?}");
    assert!(shown[1].contains("[2,9007199254740993]"), "{shown:?}");
    assert!(shown[2].contains("[3,9007199254740992]"), "{shown:?}");
}

#[test]
fn random_numbers_are_those_of_the_host() {
    let script = "export const transform = () => { const n = Math.random(); return drop(String(n >= 0 && n < 1 && n !== Math.random() && n)) }";
    let call = Call::of(script);
    let first = dropped(&call);
    let second = dropped(&call);
    assert!(
        first.starts_with("0.") && first != second,
        "each call of this host has its own seed: {first} and {second}"
    );
}

#[test]
fn the_clock_is_that_of_the_host() {
    let script = "export const transform = () => drop(String(Date.now() > 1_700_000_000_000))";
    assert_eq!(dropped(&Call::of(script)), "true");
}
