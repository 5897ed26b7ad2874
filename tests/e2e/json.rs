//! JSON: intake accepts exactly the JSON that plugins can read. Accepted bodies pass every example plugin, and others are refused
//! at the intake.

use crate::contract::frozen;
use crate::harness::{Host, Receiver, example, fixture, guest, text};
use reqwest::Method;
use serde_json::{Value, json};

const PLUGINS: [&str; 12] = [
    "flatten",
    "redact",
    "slack",
    "deal-filter",
    "reshape",
    "route",
    "normalise",
    "units",
    "enrich",
    "wrap",
    "changes",
    "guard",
];

fn contact(data: &str) -> String {
    format!(r#"{{"eventName":"Contact is Updated","eventData":{data}}}"#)
}

fn deal(data: &str) -> String {
    format!(r#"{{"eventName":"Opportunity is Updated","eventData":{data}}}"#)
}

/// Returns a contact with this nesting depth, including the envelope.
fn deep(levels: usize) -> String {
    let inner = levels - 2;
    contact(&format!(r#"{{"id":1,"a":{}1{}}}"#, "[".repeat(inner), "]".repeat(inner)))
}

/// Returns unusual JSON that is readable.
fn accepted() -> Vec<String> {
    vec![
        deep(127),
        contact(r#"{"id":1,"tags":["\ud83d\ude00","\uD83D\uDE00","😀","\u0000","\uffff","\u2028\u007f"]}"#),
        contact(r#"{"id":1,"":{"":[]},"a.b":1,"\u0061\"b":2,"__proto__":3,"$serde_json":4}"#),
        contact(
            r#"{"id":1,"id":1,"a":1,"a":{"b":1,"b":2},"properties":[{"name":"email","name":"phone","value":"x@y.example"}]}"#,
        ),
        contact(&format!(r#"{{"id":1,"lead_score":{},"created_time":1e400,"updated_time":-0}}"#, "9".repeat(5_000))),
        contact(
            r#"{"id":1,"properties":[null,1,"x",[],{"value":"v"},{"name":1,"value":{}}],"tags":[1,null],"owner":[]}"#,
        ),
        deal(r#"{"id":1,"expected_value":1e400,"probability":1E+3,"won_date":9e18,"milestone":"Won"}"#),
        deal(r#"{"id":1,"expected_value":"123456789012345678901234567890.5","probability":"50","milestone":"Won"}"#),
        deal(r#"{"id":1,"expected_value":-1e-400,"probability":-1,"contact_ids":[1.0,"2",null],"milestone":"Won"}"#),
        format!(" \r\n\t{} \n", contact(r#"{"id":1}"#)),
    ]
}

/// Returns bodies that no plugin could read, each with a part of the error.
fn refused() -> Vec<(Vec<u8>, &'static str)> {
    fn bytes(text: String) -> Vec<u8> {
        text.into_bytes()
    }
    vec![
        (bytes(fixture("odd/lone_surrogate_value.json")), "\\ud83d at byte 149 is half of a surrogate pair"),
        (bytes(fixture("odd/depth_128.json")), "deeper than 127 levels at byte"),
        (bytes(deep(128)), "deeper than 127 levels at byte"),
        (bytes(contact(r#"{"\udE00":1}"#)), "\\ude00 at byte"),
        (bytes(contact(r#"{"a":[["\ud83dx"]]}"#)), "half of a surrogate pair"),
        (bytes(contact(r#"{"a":"\ud83d\ud83d\ude00"}"#)), "half of a surrogate pair"),
        (br#"{"eventName":"Contact is Updated\ud83d","eventData":{}}"#.to_vec(), "half of a surrogate pair"),
        (bytes(contact(r#"{"a":{"$serde_json::private::Number":"x"}}"#)), "is reserved"),
        (bytes(contact(r#"{"a":{"\u0024serde_json::private::RawValue":"["}}"#)), "is reserved"),
        (b"\xef\xbb\xbf{}".to_vec(), "byte order mark"),
        (std::fs::read(crate::harness::fixtures().join("odd/latin1.json")).unwrap(), "not UTF-8"),
        (b"{\"eventName\":\"Contact is Updated\",\"eventData\":{\"a\":\"\0\"}}".to_vec(), "control character"),
        (b"\xff\xfe{\0}\0".to_vec(), "not UTF-8"),
        (bytes(contact("{\"a\":01}")), "invalid number"),
        (bytes(contact("{\"a\":NaN}")), "expected value"),
    ]
}

#[tokio::test]
async fn what_is_accepted_goes_through_every_example_plugin() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    for plugin in PLUGINS {
        host.plugin(plugin, example(plugin)).await;
        let also = json!({"plugin": plugin, "description": plugin, "limits": {"cpu_ms": 500}});
        host.subscription(&format!("{}{plugin}", receiver.url), also).await;
    }
    // One plugin that was built with the first sdk, and a chain that wraps the event before it is read again.
    host.plugin("frozen", frozen("rust")).await;
    host.subscription(&format!("{}frozen", receiver.url), json!({"plugin": "frozen"})).await;
    let also = json!({"plugin": ["wrap", "reshape"], "config": {"as": "cloudevents"}});
    host.subscription(&format!("{}chain", receiver.url), also).await;
    for payload in accepted() {
        let id = host.send(payload.clone()).await;
        for delivery in host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await {
            let verdict = text(&delivery["attempts"][0], "verdict");
            assert!(["pass", "replace", "drop"].contains(&verdict), "{payload}: {delivery}");
        }
        // A plugin that changes nothing loses nothing, and adds nothing.
        let sent = crate::harness::until("the reshaped event", async || {
            let received = receiver.received();
            received
                .into_iter()
                .rev()
                .find(|one| one["path"] == "/reshape" && one["headers"]["hookloom-event-id"] == json!(id))
        });
        let sent: Value = serde_json::from_str(text(&sent.await, "body")).unwrap();
        assert_eq!(sent, serde_json::from_str::<Value>(&payload).unwrap());
    }
    host.ledger().await;
}

#[tokio::test]
async fn unreadable_json_is_refused_and_kept() {
    let host = Host::start().await;
    let path = text(&host.post("./intake-tokens", &json!({})).await, "path").to_owned();
    for (body, detail) in refused() {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let reply = host.ask(Method::POST, "./events", body.clone()).await;
        assert_eq!(reply.status, 400, "{shown}: {}", reply.text);
        assert!(text(&reply.json, "detail").contains(detail), "{shown}: {}", reply.text);
        assert!(reply.json["offset"].is_u64(), "{}", reply.text);
        let kept = host.ask_as("", Method::POST, &path, body).await;
        assert!(kept.status == 400 && kept.json["rejected_request"].is_string(), "{shown}: {}", kept.text);
    }
    assert_eq!(host.get("./rejected-requests").await.as_array().unwrap().len(), refused().len());
    // In a batch, the position is reported.
    let batch = format!("{}\n{}", contact("{}"), contact(r#"{"a":"\ud83d"}"#));
    let reply = host.ask(Method::POST, "./events", batch).await;
    assert!(reply.status == 400 && text(&reply.json, "detail").starts_with("line 2: the escape"), "{}", reply.text);
    assert_eq!(host.ledger().await["events"], 0);
}

#[tokio::test]
async fn an_unreadable_event_of_an_older_host_does_not_affect_the_next_one() {
    let host = Host::start().await;
    let receiver = Receiver::start().await;
    let first = host.send(contact(r#"{"id":7,"a":1}"#)).await;
    let (_, folder) = host.stop().await;
    let database = rusqlite::Connection::open(folder.path().join("data/hookloom.db")).unwrap();
    let unreadable = contact(r#"{"id":7,"a":"Ann \ud83d"}"#);
    let changed = database.execute("UPDATE events SET payload = CAST(?1 AS BLOB)", [&unreadable]).unwrap();
    assert_eq!(changed, 1);
    database.close().unwrap();
    let host = Host::with().on(folder).start().await;
    for plugin in ["changes", "guard"] {
        host.plugin(plugin, example(plugin)).await;
        host.subscription(&receiver.url, json!({"plugin": plugin})).await;
    }
    host.plugin("looks-back", guest("looks_back")).await;
    host.subscription(&receiver.url, json!({"plugin": "looks-back"})).await;
    let second = host.send(contact(r#"{"id":7,"a":2}"#)).await;
    assert_eq!(host.get(&format!("./events/{second}")).await["previous"], json!(first));
    for delivery in host.deliveries_when(&second, |delivery| delivery["state"] != "pending").await {
        let attempt = &delivery["attempts"][0];
        let is_pass = attempt["verdict"] == "pass";
        assert!(is_pass || attempt["reason"]["message"] == "nothing was accepted before", "{delivery}");
    }
    // The history of the next event is readable again.
    let third = host.send(contact(r#"{"id":7,"a":3}"#)).await;
    let deliveries = host.deliveries_when(&third, |delivery| delivery["state"] != "pending").await;
    let replaced = deliveries.iter().filter(|delivery| delivery["attempts"][0]["verdict"] == "replace").count();
    assert_eq!(replaced, 1, "changes says what changed: {deliveries:?}");
}
