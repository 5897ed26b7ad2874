//! Hostile receivers and a full disk, in their short form. `cargo xtask soak` has the long form.

use crate::harness::{ADMIN_KEY, Authority, Host, RawReceiver, Receiver, event, text};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Behaviour of a hostile receiver at a request.
#[derive(Clone, Copy, Debug)]
enum Hostile {
    Hangs,
    DripsItsHead,
    DripsItsBody,
    Resets,
    HangsUp,
    SendsAGigabyte,
    LiesAboutItsLength,
    SendsMoreThanItSays,
    SendsABomb,
    SendsAHugeHeader,
    SendsEndless100s,
    SpeaksNoHttp,
    FloodsInterimResponses,
    FloodsHeaderLines,
    FloodsBlankLines,
    FloodsChunkExtensions,
    FloodsChunks,
    FloodsTrailers,
}

/// Behaviours with the expected result of an attempt: the status, or the code of the reason.
const HOSTILE: [(Hostile, &str); 18] = [
    (Hostile::Hangs, "timeout"),
    (Hostile::DripsItsHead, "timeout"),
    (Hostile::DripsItsBody, "200"),
    (Hostile::Resets, "broken"),
    (Hostile::HangsUp, "broken"),
    (Hostile::SendsAGigabyte, "200"),
    (Hostile::LiesAboutItsLength, "200"),
    (Hostile::SendsMoreThanItSays, "200"),
    (Hostile::SendsABomb, "200"),
    (Hostile::SendsAHugeHeader, "broken"),
    (Hostile::SendsEndless100s, "broken"),
    (Hostile::SpeaksNoHttp, "broken"),
    (Hostile::FloodsInterimResponses, "broken"),
    (Hostile::FloodsHeaderLines, "broken"),
    (Hostile::FloodsBlankLines, "broken"),
    (Hostile::FloodsChunkExtensions, "200"),
    (Hostile::FloodsChunks, "200"),
    (Hostile::FloodsTrailers, "200"),
];

/// Behaves like this, until the host closes the connection.
async fn misbehave(how: Hostile, mut socket: TcpStream) -> std::io::Result<()> {
    fn pause() -> tokio::time::Sleep {
        tokio::time::sleep(Duration::from_millis(20))
    }
    match how {
        Hostile::Hangs => std::future::pending().await,
        Hostile::DripsItsHead => loop {
            socket.write_all(b"H").await?;
            pause().await;
        },
        Hostile::DripsItsBody => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await?;
            loop {
                socket.write_all(b"x").await?;
                pause().await;
            }
        }
        Hostile::Resets => socket.set_zero_linger(),
        Hostile::HangsUp => Ok(()),
        Hostile::SendsAGigabyte => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await?;
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..1_024 {
                socket.write_all(&piece).await?;
            }
            Ok(())
        }
        Hostile::LiesAboutItsLength => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort").await?;
            socket.shutdown().await
        }
        Hostile::SendsMoreThanItSays => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nmuch more").await?;
            std::future::pending().await
        }
        Hostile::SendsABomb => socket.write_all(&bomb()?).await,
        Hostile::SendsAHugeHeader => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nx-huge: ").await?;
            socket.write_all(&vec![b'x'; 1 << 20]).await?;
            socket.write_all(b"\r\ncontent-length: 0\r\n\r\n").await
        }
        Hostile::SendsEndless100s => loop {
            socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            pause().await;
        },
        Hostile::SpeaksNoHttp => {
            socket.write_all(b"220 mail.example ESMTP\r\n").await?;
            socket.shutdown().await
        }
        floods => send_without_end(floods, socket).await,
    }
}

/// Returns a gigabyte of zeros in a few kilobytes of gzip, which the host did not ask for and must not decode.
fn bomb() -> std::io::Result<Vec<u8>> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let piece = vec![0; 1 << 20];
    for _ in 0..64 {
        std::io::Write::write_all(&mut packed, &piece)?;
    }
    let packed = packed.finish()?;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
    Ok([head.into_bytes(), packed].concat())
}

/// Sends without end, as fast as the host reads.
async fn send_without_end(what: Hostile, socket: TcpStream) -> std::io::Result<()> {
    let (first, again) = match what {
        Hostile::FloodsInterimResponses => ("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_owned()),
        Hostile::FloodsHeaderLines => ("HTTP/1.1 200 OK\r\n", "x: y\r\n".to_owned()),
        Hostile::FloodsBlankLines => ("", "\r\n".to_owned()),
        Hostile::FloodsChunkExtensions => (CHUNKED, format!("1;{}\r\nx\r\n", "e".repeat(999))),
        Hostile::FloodsChunks => (CHUNKED, "1\r\nx\r\n".to_owned()),
        Hostile::FloodsTrailers => (TRAILED, "x: y\r\n".to_owned()),
        other => panic!("{other:?} has an end"),
    };
    flood(socket, first, again).await
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const TRAILED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";

/// Sends the same bytes repeatedly, as fast as the host reads.
async fn flood(
    mut socket: impl AsyncWrite + Unpin,
    first: impl AsRef<[u8]>,
    again: impl AsRef<[u8]>,
) -> std::io::Result<()> {
    socket.write_all(first.as_ref()).await?;
    let piece = again.as_ref().repeat(1 + (64 << 10) / again.as_ref().len());
    loop {
        socket.write_all(&piece).await?;
        socket.flush().await?;
    }
}

#[tokio::test]
async fn hostile_receivers_cost_their_lanes_a_deadline_and_nothing_else() {
    hostile_receivers().await;
}

/// Runs each behaviour once, with a healthy receiver at the same time. Returns the number of behaviours.
pub(crate) async fn hostile_receivers() -> usize {
    let host = Host::start().await;
    let good = Receiver::start().await;
    let mut subscriptions = Vec::new();
    for (how, expected) in HOSTILE {
        let receiver = RawReceiver::start(move |socket| async move {
            let _ = misbehave(how, socket).await;
        })
        .await;
        // A bound on size ends the attempt before the deadline.
        let timeout_ms = if format!("{how:?}").starts_with("Floods") { 30_000 } else { 1_000 };
        let also = json!({"timeout_ms": timeout_ms, "retry": {"schedule_s": [0]}});
        subscriptions.push((host.subscription(&receiver.url, also).await, how, expected));
    }
    let healthy = host.subscription(&good.url, json!({})).await;
    let id = host.send(event("Contact is Created", 1)).await;
    for delivery in host.deliveries_when(&id, |delivery| delivery["state"] != "pending").await {
        if delivery["subscription"] == *healthy {
            assert_eq!(text(&delivery, "state"), "delivered");
            continue;
        }
        let (_, how, expected) = subscriptions.iter().find(|(id, ..)| delivery["subscription"] == **id).unwrap();
        let attempt = &delivery["attempts"][0];
        let came_to = match attempt["status"].as_u64() {
            Some(status) => status.to_string(),
            None => text(&attempt["reason"], "code").to_owned(),
        };
        assert_eq!(came_to, *expected, "{how:?}: {delivery}");
        let most_us = if format!("{how:?}").starts_with("Floods") { 25_000_000 } else { 2_500_000 };
        assert!(attempt["post_us"].as_u64().unwrap() < most_us, "{how:?}: {attempt}");
        assert!(delivery.to_string().len() < 30_000, "{how:?}: a receiver chooses how much is kept");
    }
    let received = good.expect(1).await.remove(0);
    assert!(received["headers"]["accept-encoding"].is_null(), "nobody is asked to compress: {received}");
    host.ledger().await;
    HOSTILE.len()
}

/// Returns a frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// Starts a receiver that speaks HTTP/2 and floods the host with the same frame, after a first one.
async fn flooding_http2(authority: &Authority, first: Vec<u8>, again: Vec<u8>) -> String {
    let acceptor = authority.acceptor("127.0.0.1", "h2");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            let first = first.clone();
            let again = again.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                // More bytes than a preface and settings: the request has arrived.
                let mut read = 0;
                let mut piece = [0; 4_096];
                while read < 200 {
                    read += stream.read(&mut piece).await.ok().filter(|read| *read > 0).unwrap_or(200);
                }
                let _ = flood(stream, [frame(4, 0, 0, b""), first].concat(), again).await;
            });
        }
    });
    url
}

/// Frames without an answer, or after it, end a connection long before its deadline.
#[tokio::test]
async fn floods_of_http2_are_bounded() {
    let host = Host::start().await;
    let authority = Authority::new();
    let ok = frame(1, 4, 1, &[0x88]);
    let interim = frame(1, 4, 1, b"\x08\x03103");
    let floods = [
        ("interim responses", Vec::new(), interim, "broken"),
        ("PING", Vec::new(), frame(6, 0, 0, b"12345678"), "broken"),
        ("SETTINGS", Vec::new(), frame(4, 0, 0, b""), "broken"),
        ("WINDOW_UPDATE", Vec::new(), frame(8, 0, 1, &[0, 0, 0, 1]), "broken"),
        ("PRIORITY", Vec::new(), frame(2, 0, 3, &[0, 0, 0, 0, 1]), "broken"),
        ("an unknown frame", Vec::new(), frame(0xee, 0, 0, b""), "broken"),
        ("CONTINUATION", frame(1, 0, 1, &[0x88]), frame(9, 0, 1, b""), "broken"),
        ("empty DATA", ok, frame(0, 0, 1, b""), "200"),
    ];
    for (what, first, again, expected) in floods {
        let url = flooding_http2(&authority, first, again).await;
        let also = json!({
            "timeout_ms": 30_000, "retry": {"schedule_s": [0]}, "transport": {"authorities": authority.pem()},
        });
        let id = host.subscription(&url, also).await;
        let delivery = host.ended(&host.send(event("Contact is Created", 1)).await).await;
        let attempt = &delivery["attempts"][0];
        let came_to = match attempt["status"].as_u64() {
            Some(status) => status.to_string(),
            None => text(&attempt["reason"], "code").to_owned(),
        };
        assert_eq!(came_to, expected, "{what}: {delivery}");
        assert!(attempt["post_us"].as_u64().unwrap() < 25_000_000, "{what}: {attempt}");
        host.ask(Method::DELETE, &format!("./subscriptions/{id}"), "").await;
    }
}

/// Limits the size of a process's files; `unlimited` removes the limit.
async fn limit_files(host: &Host, bytes: &str) {
    let pid = host.process.id().unwrap().to_string();
    let limit =
        tokio::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status();
    assert!(limit.await.unwrap().success());
}

#[tokio::test]
async fn a_disk_that_fills_up_under_load_loses_nothing() {
    disk_fills_up(3).await;
}

/// Fills the disk, this number of times. Returns the numbers of accepted and of refused events.
pub(crate) async fn disk_fills_up(rounds: usize) -> (usize, usize) {
    let receiver = Receiver::start().await;
    // The log is on the same disk: none of its lines can be written then, which must not matter either.
    let folder = Arc::new(tempfile::TempDir::new().unwrap());
    std::fs::write(folder.path().join("log"), " ".repeat(8_192)).unwrap();
    let host = Host::with().on(folder).ignoring_file_limits().start().await;
    host.subscription(&receiver.url, json!({})).await;
    let mut accepted = BTreeSet::new();
    let mut refused = 0;
    let mut send = async |number: usize| {
        let reply =
            host.try_ask(ADMIN_KEY, Method::POST, "./events", event("Contact is Created", number)).await.unwrap();
        match reply.status {
            202 => drop(accepted.insert(text(&reply.json["events"][0], "id").to_owned())),
            503 => {
                refused += 1;
                assert!(reply.headers.contains_key("retry-after"), "{}", reply.text);
            }
            other => panic!("{other}: {}", reply.text),
        }
        reply.status
    };
    for round in 0..rounds {
        let mut number = round * 1_000;
        while number % 1_000 < 50 {
            send(number).await;
            number += 1;
        }
        // Only writes that fit into the present files succeed.
        limit_files(&host, "4096").await;
        while send(number).await != 503 {
            number += 1;
            assert!(number % 1_000 < 900, "the disk never filled up");
        }
        limit_files(&host, "unlimited").await;
    }
    while send(5_000).await != 202 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    host.drained().await;
    let sent: BTreeSet<String> =
        receiver.received().iter().map(|one| text(&one["headers"], "hookloom-event-id").to_owned()).collect();
    let lost: Vec<_> = accepted.difference(&sent).collect();
    assert!(lost.is_empty() && accepted.len() > 100, "{} accepted, lost {lost:?}", accepted.len());
    (accepted.len(), refused)
}
