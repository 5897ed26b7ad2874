//! Hostile receivers and a full disk, in their short form; `cargo xtask soak` has the long one.

use crate::harness::{ADMIN_KEY, Host, RawReceiver, Receiver, event, text, until};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// What a hostile receiver does with a request.
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
}

/// Each with what an attempt comes to: the status, or the code of the reason.
const HOSTILE: [(Hostile, &str); 12] = [
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
    (Hostile::SendsEndless100s, "timeout"),
    (Hostile::SpeaksNoHttp, "broken"),
];

/// Does it, until the host hangs up.
async fn misbehave(how: Hostile, mut socket: TcpStream) -> std::io::Result<()> {
    let pause = || tokio::time::sleep(Duration::from_millis(20));
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
        // A gigabyte of zeros, as it would be in a few kilobytes: nobody asked for it, and nobody unpacks it.
        Hostile::SendsABomb => {
            let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let piece = vec![0; 1 << 20];
            for _ in 0..64 {
                std::io::Write::write_all(&mut bomb, &piece)?;
            }
            let bomb = bomb.finish()?;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(&bomb).await
        }
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
    }
}

#[tokio::test]
async fn hostile_receivers_cost_their_own_lanes_a_deadline_and_nothing_else() {
    hostile_receivers().await;
}

/// Each kind once, beside a healthy one; how many kinds there are.
pub(crate) async fn hostile_receivers() -> usize {
    let (host, good) = (Host::start().await, Receiver::start().await);
    let mut subscriptions = Vec::new();
    for (how, expected) in HOSTILE {
        let receiver = RawReceiver::start(move |socket| async move {
            let _ = misbehave(how, socket).await;
        })
        .await;
        let also = json!({"timeout_ms": 1_000, "retry": {"schedule_s": [0]}});
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
        assert!(attempt["post_us"].as_u64().unwrap() < 2_500_000, "{how:?}: {attempt}");
        assert!(delivery.to_string().len() < 30_000, "{how:?}: a receiver chooses how much is kept");
    }
    let received = good.expect(1).await.remove(0);
    assert!(received["headers"]["accept-encoding"].is_null(), "nobody is asked to compress: {received}");
    host.ledger().await;
    HOSTILE.len()
}

/// Lets no file of a process grow beyond this; `unlimited` undoes it.
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

/// Fills it up so many times; how many events were accepted, and how many refused.
pub(crate) async fn disk_fills_up(rounds: usize) -> (usize, usize) {
    let receiver = Receiver::start().await;
    // The log is on the same disk: no line of it can be written then, which must not matter either.
    let folder = Arc::new(tempfile::TempDir::new().unwrap());
    std::fs::write(folder.path().join("log"), " ".repeat(8_192)).unwrap();
    let host = Host::with().on(folder).ignoring_file_limits().start().await;
    host.subscription(&receiver.url, json!({})).await;
    let (mut accepted, mut refused) = (BTreeSet::new(), 0);
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
        // Nothing can be written but what fits the files as they are.
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
    until("all to be delivered", async || (host.ledger().await["pending"] == 0).then_some(())).await;
    let sent: BTreeSet<String> =
        receiver.received().iter().map(|one| text(&one["headers"], "hookloom-event-id").to_owned()).collect();
    let lost: Vec<_> = accepted.difference(&sent).collect();
    assert!(lost.is_empty() && accepted.len() > 100, "{} accepted, lost {lost:?}", accepted.len());
    (accepted.len(), refused)
}
