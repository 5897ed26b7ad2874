//! Intake of `/in`, where every event is sent once: a request is accepted or its bytes are kept, and kept requests can be read,
//! downloaded, edited and submitted.

use crate::harness::{ADMIN_KEY, Host, PATIENCE, Visitor, event, fixtures, text, until};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const NAME: &str = "Contact is Created";

async fn address(host: &Host) -> String {
    text(&host.post("./intake-tokens", &json!({})).await, "path").to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Sends a body with a content encoding.
async fn send(host: &Host, path: &str, encoding: Option<&str>, body: Vec<u8>) -> (u16, Value) {
    let mut request = crate::harness::client().post(format!("{}{path}", host.url)).body(body);
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

/// Downloads the kept bytes of a rejected request.
async fn download(host: &Host, id: &str) -> Vec<u8> {
    let url = format!("{}/v1/tenants/default/rejected-requests/{id}/body", host.url);
    let request = crate::harness::client().get(url).header("authorization", format!("Bearer {ADMIN_KEY}"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    assert!(response.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    response.bytes().await.unwrap().to_vec()
}

async fn connect(host: &Host) -> TcpStream {
    TcpStream::connect(host.url.strip_prefix("http://").unwrap()).await.unwrap()
}

fn request(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Returns the only rejected request, once it exists.
async fn the_rejected(host: &Host) -> Value {
    until("the rejected request", async || {
        let all = host.get("./rejected-requests").await;
        (all.as_array().unwrap().len() == 1).then(|| all[0].clone())
    })
    .await
}

#[tokio::test]
async fn text_pasted_around_an_address_is_ignored() {
    let host = Host::start().await;
    let path = address(&host).await;
    let token = path.strip_prefix("/in/").unwrap();
    let variants = [
        format!("{path}/"),
        format!("{path}//"),
        format!("{path}%20"),
        format!("{path}%0D%0A"),
        format!("{path}%C2%A0"),
        format!("{path}%A0"),
        format!("{path}/%20"),
        format!("{path}?source=agile"),
        format!("{path}."),
        format!("/in//{token}"),
        format!("/in/%20{token}"),
    ];
    for variant in &variants {
        // As written, without the normalisation of a client.
        let mut socket = connect(&host).await;
        socket.write_all(request(variant, &event(NAME, 1)).as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 202", "{variant}");
    }
    assert_eq!(host.ledger().await["events"], variants.len());
    let unknown = host.ask_as("", Method::POST, "/in/hlt_unknown/", event(NAME, 1)).await;
    assert_eq!((unknown.status, text(&unknown.json, "type")), (404, "urn:hookloom:problem:no-token"));
}

#[tokio::test]
async fn gzip_is_accepted_and_the_event_is_what_was_compressed() {
    let host = Host::start().await;
    let path = address(&host).await;
    let sent = event(NAME, 7);
    let compressed = gzip(sent.as_bytes());
    let cases = [
        (Some("gzip"), compressed.clone()),
        (Some("X-GZIP"), compressed.clone()),
        (Some("identity, gzip"), compressed.clone()),
        (None, compressed),
        // Decompressed by a proxy that leaves the header.
        (Some("gzip"), sent.clone().into_bytes()),
    ];
    for (encoding, body) in cases {
        for path in [path.as_str(), "/v1/tenants/default/events"] {
            let mut request = crate::harness::client().post(format!("{}{path}", host.url)).body(body.clone());
            request = request.header("authorization", format!("Bearer {ADMIN_KEY}"));
            if let Some(encoding) = encoding {
                request = request.header("content-encoding", encoding);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 202, "{encoding:?}");
            let id = response.headers().get("hookloom-event-id").map(|id| id.to_str().unwrap().to_owned());
            let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            let id = id.unwrap_or_else(|| text(&answer["events"][0], "id").to_owned());
            assert_eq!(host.get(&format!("./events/{id}")).await["entity_id"], "7");
        }
    }
    assert_eq!(host.ledger().await["events"], 10);
    assert_eq!(host.get("./rejected-requests").await, json!([]));
}

#[tokio::test]
async fn undecodable_bodies_are_kept_to_the_byte() {
    let host = Host::start().await;
    let path = address(&host).await;
    let sent = event(NAME, 7).into_bytes();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(&sent).unwrap();
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&sent).unwrap();
    let whole = gzip(&sent);
    let bomb = gzip(&vec![b' '; 16 << 20]);
    let cases: [(Option<&str>, Vec<u8>, u16, &str); 9] = [
        (Some("br"), b"\x0b\x02\x80{}\x03".to_vec(), 415, "the content encoding \"br\" is not supported"),
        (Some("deflate"), zlib.finish().unwrap(), 415, "\"deflate\""),
        (Some("deflate"), deflate.finish().unwrap(), 415, "\"deflate\""),
        (Some("zstd"), b"\x28\xb5\x2f\xfd\0".to_vec(), 415, "\"zstd\""),
        (Some("gzip, br"), b"\xff\xfe".to_vec(), 415, "\"br\""),
        (Some("gzip"), whole[..whole.len() - 5].to_vec(), 400, "not a complete gzip stream"),
        (Some("gzip"), bomb, 413, "once it is decompressed"),
        (Some("gzip"), gzip(b"no json"), 400, "expected"),
        (None, std::fs::read(fixtures().join("odd/latin1.json")).unwrap(), 400, "not UTF-8"),
    ];
    for (encoding, body, status, reason) in cases {
        let (found, answer) = send(&host, &path, encoding, body.clone()).await;
        assert_eq!(found, status, "{encoding:?}: {answer}");
        let id = text(&answer, "rejected_request");
        let kept = host.get(&format!("./rejected-requests/{id}")).await;
        assert!(text(&kept, "reason").contains(reason), "{kept}");
        assert_eq!((&kept["truncated"], &kept["bytes"]), (&json!(false), &json!(body.len())));
        assert_eq!(download(&host, id).await, body, "{encoding:?}");
        assert!(kept["body"].is_null() && kept["body_base64"].is_string(), "{kept}");
        // The cause still exists.
        let again = host.ask(Method::POST, &format!("./rejected-requests/{id}/resubmit"), "").await;
        assert!((400..500).contains(&again.status), "{}", again.text);
        host.get(&format!("./rejected-requests/{id}")).await;
    }
    // A sender with a key gets the same message, and nothing is kept.
    let events = crate::harness::client().post(format!("{}/v1/tenants/default/events", host.url));
    let events = events.header("authorization", format!("Bearer {ADMIN_KEY}")).header("content-encoding", "br");
    assert_eq!(events.body("x").send().await.unwrap().status(), 415);
    assert_eq!(host.ledger().await["events"], 0);
}

#[tokio::test]
async fn a_compressed_event_is_submitted_once_its_name_is_allowed() {
    let host = Host::start().await;
    let path = address(&host).await;
    let (status, answer) = send(&host, &path, Some("gzip"), gzip(event("Contact is Deleted", 9).as_bytes())).await;
    assert_eq!(status, 422, "{answer}");
    let change = json!({"event_types": {"Contact is Deleted": {"module": "Contact"}}});
    host.ask(Method::PATCH, "/v1/tenants/default", change.to_string()).await.ok();
    let again = format!("./rejected-requests/{}/resubmit", text(&answer, "rejected_request"));
    let accepted = host.ask(Method::POST, &again, "").await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let id = text(&accepted.json["events"][0], "id");
    assert_eq!(host.get(&format!("./events/{id}")).await["entity_id"], "9");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_kept_as_far_as_it_came_and_can_be_completed() {
    for chunked in [false, true] {
        let host = Host::start().await;
        let path = address(&host).await;
        let whole = event(NAME, 7);
        let half = &whole[..20];
        let framing =
            if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {}", whole.len()) };
        let body = if chunked { format!("14\r\n{half}\r\n") } else { half.to_owned() };
        let mut socket = connect(&host).await;
        socket
            .write_all(format!("POST {path} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n{body}").as_bytes())
            .await
            .unwrap();
        drop(socket);
        let rejected = the_rejected(&host).await;
        let expected = if chunked { "20 bytes came".to_owned() } else { format!("20 of {} bytes came", whole.len()) };
        assert!(text(&rejected, "reason").contains(&expected), "{rejected}");
        assert_eq!((&rejected["truncated"], &rejected["bytes"]), (&json!(true), &json!(20)));
        let id = text(&rejected, "id");
        assert_eq!(download(&host, id).await, half.as_bytes());
        let again = format!("./rejected-requests/{id}/resubmit");
        let refused = host.ask(Method::POST, &again, "").await;
        assert_eq!((refused.status, text(&refused.json, "type")), (409, "urn:hookloom:problem:truncated"));
        let still_wrong = host.ask(Method::POST, &again, half.to_owned()).await;
        assert_eq!(still_wrong.status, 400, "{}", still_wrong.text);
        assert_eq!(host.ask(Method::POST, &again, whole).await.status, 202);
        assert_eq!(host.get("./rejected-requests").await, json!([]));
        assert_eq!(host.ledger().await["events"], 1);
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_kept_too() {
    let host = Host::with().set("stall_timeout_s=1").start().await;
    let path = address(&host).await;
    let mut socket = connect(&host).await;
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{\"event");
    socket.write_all(head.as_bytes()).await.unwrap();
    let rejected = the_rejected(&host).await;
    assert!(text(&rejected, "reason").contains("stalled") && rejected["bytes"] == 7, "{rejected}");
}

#[tokio::test]
async fn a_client_that_hangs_up_at_once_has_sent_its_event() {
    let host = Host::start().await;
    let path = address(&host).await;
    for number in 0..50 {
        let mut socket = connect(&host).await;
        socket.write_all(request(&path, &event(NAME, number)).as_bytes()).await.unwrap();
        drop(socket);
    }
    until("the events", async || (host.ledger().await["events"] == 50).then_some(())).await;
}

#[tokio::test]
async fn a_request_that_crosses_the_end_of_an_idle_connection_is_accepted() {
    let host = Host::with().set("idle_timeout_s=1").start().await;
    let path = address(&host).await;
    let mut sockets = Vec::new();
    for number in 0..10 {
        let mut socket = connect(&host).await;
        socket.write_all(request(&path, &event(NAME, number)).as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    let mut announced = 0;
    for (number, socket) in sockets.iter_mut().enumerate() {
        let mut answer = Vec::new();
        // The answer, and then the end of the host's sending direction.
        tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an end").unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        announced += usize::from(answer.to_lowercase().contains("keep-alive: timeout=1\r\n"));
        // A client that has not noticed the end sends its next event now.
        socket.write_all(request(&path, &event(NAME, 100 + number)).as_bytes()).await.unwrap();
    }
    assert_eq!(announced, sockets.len());
    until("the events that crossed the end", async || (host.ledger().await["events"] == 20).then_some(())).await;
}

#[tokio::test]
async fn the_rejected_are_listed_in_pages_and_forgotten_on_request() {
    let host = Host::start().await;
    let path = address(&host).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let kept = host.ask_as("", Method::POST, &path, format!("no event {number}")).await;
        ids.insert(0, text(&kept.json, "rejected_request").to_owned());
    }
    let mut found = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = host.ask(Method::GET, &format!("./rejected-requests{query}"), "").await;
        found.extend(page.json.as_array().unwrap().iter().map(|one| text(one, "id").to_owned()));
        let Some(link) = page.headers.get("link") else { break };
        query = link.to_str().unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    }
    assert_eq!(found, ids, "the newest first, each once");
    let one = format!("./rejected-requests/{}", ids[2]);
    assert_eq!(host.ask(Method::DELETE, &one, "").await.status, 204);
    assert_eq!(host.ask(Method::GET, &one, "").await.status, 404);
    assert_eq!(host.ask(Method::DELETE, &one, "").await.status, 404);
    host.post("/v1/tenants", &json!({"id": "other"})).await;
    let foreign = format!("/v1/tenants/other/rejected-requests/{}/body", ids[0]);
    assert_eq!(host.ask(Method::GET, &foreign, "").await.status, 404);
}

#[tokio::test]
async fn a_rejected_request_is_edited_on_its_page() {
    let host = Host::start().await;
    let path = address(&host).await;
    let latin1 = std::fs::read(fixtures().join("odd/latin1.json")).unwrap();
    let (_, answer) = send(&host, &path, None, latin1).await;
    let id = text(&answer, "rejected_request").to_owned();
    let mut visitor = Visitor::admin(&host).await;
    assert!(visitor.see("/t/default/access").await.contains("/t/default/rejected\""));
    let list = visitor.see("/t/default/rejected").await;
    assert!(list.contains(&id) && list.contains("the body is not UTF-8"), "{list}");
    let here = format!("/t/default/rejected/{id}");
    let page = visitor.see(&here).await;
    assert!(page.contains("K\u{f6}ln") && page.contains("ISO 8859-1"), "{page}");
    assert!(page.contains(&format!("/v1/tenants/default/rejected-requests/{id}/body")), "{page}");

    let wrong = visitor.post(&format!("{here}/resubmit"), &[("body", "{\"eventName\": <oops>}")]).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    assert!(wrong.text.contains("expected value") && wrong.text.contains("&#60;oops&#62;"), "{}", wrong.text);
    let as_it_is = visitor.post(&format!("{here}/resubmit"), &[]).await;
    assert!(as_it_is.status == 422 && as_it_is.text.contains("not UTF-8"), "{}", as_it_is.text);
    let edited = r#"{"eventName":"Contact is Created","eventData":{"id":1,"city":"Köln"}}"#;
    let accepted = visitor.post(&format!("{here}/resubmit"), &[("body", edited)]).await;
    assert!(accepted.status == 303 && accepted.location.starts_with("/t/default/events/"), "{accepted:?}");
    assert!(visitor.see(&accepted.location).await.contains("The event was accepted."));
    assert_eq!(visitor.get(&here).await.status, 404);

    let other = host.ask_as("", Method::POST, &path, "no event").await;
    let other = format!("/t/default/rejected/{}", text(&other.json, "rejected_request"));
    visitor.see(&other).await;
    let gone = visitor.post(&format!("{other}/delete"), &[]).await;
    assert_eq!((gone.status, gone.location.as_str()), (303, "/t/default/rejected"));
    assert!(visitor.see("/t/default/rejected").await.contains("No request was refused."));
}
