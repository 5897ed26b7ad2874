//! Attacks by receivers: hanging, endless and large answers.

use super::arena::{Arena, Attack, again, batch};
use super::run::Scenario;
use crate::harness::RawReceiver;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// Scenarios of this kind.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new("hanging-receivers", "four tenants with 512 requests each to receivers that hang", |arena| {
        Box::pin(hanging(arena))
    }),
    Scenario::new("interim-responses", "a receiver that sends interim responses without end", |arena| {
        Box::pin(interim(arena))
    }),
    Scenario::new("endless-answers", "receivers with endless bodies, chunks, heads and redirects", |arena| {
        Box::pin(answers(arena))
    }),
];

/// Creates a tenant whose two webhooks have the maximum of requests under way.
async fn waiting_on(arena: &Arena, id: &str, url: &str, events: usize, pause: Duration) -> Attack {
    let tenant = arena.tenant(id).await;
    for _ in 0..2 {
        tenant.subscription(url, json!({"timeout_ms": 30_000, "concurrency": 256})).await;
    }
    again(move |round| {
        let tenant = tenant.clone();
        async move {
            tenant.send(batch(round * events, events)).await;
            tokio::time::sleep(pause).await;
        }
    })
}

/// Runs four tenants whose receivers hang, with the maximum of requests under way each.
async fn hanging(arena: Arena) -> Vec<Attack> {
    let url = RawReceiver::hanging().await.url;
    let mut attacks = Vec::new();
    for number in 0..4 {
        attacks.push(waiting_on(&arena, &format!("a{number}"), &url, 300, Duration::from_secs(1)).await);
    }
    attacks
}

/// Starts a receiver that sends these bytes without end, after the first ones.
async fn endless(first: &'static [u8], piece: Vec<u8>) -> String {
    let receiver = RawReceiver::start(move |mut socket| {
        let piece = piece.clone();
        async move {
            let _ = socket.write_all(first).await;
            while socket.write_all(&piece).await.is_ok() {}
        }
    });
    receiver.await.url
}

async fn interim(arena: Arena) -> Vec<Attack> {
    let url = endless(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(400)).await;
    vec![waiting_on(&arena, "a", &url, 10, Duration::from_millis(500)).await]
}

/// Sends bodies, heads and chunks without end, and redirects in a circle.
async fn answers(arena: Arena) -> Vec<Attack> {
    let redirects = "HTTP/1.1 307 Temporary Redirect\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n".to_owned();
    let urls = [
        endless(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n", vec![b'x'; 1 << 18]).await,
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n".repeat(10_000)).await,
        endless(b"HTTP/1.1 200 OK\r\n", format!("x-{}: y\r\n", "h".repeat(8_000)).into_bytes()).await,
        RawReceiver::answering(redirects).await.url,
    ];
    let mut attacks = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        attacks.push(waiting_on(&arena, &format!("a{number}"), url, 20, Duration::from_millis(200)).await);
    }
    attacks
}
