//! Attacks by connections: held connections, endless bodies, floods of requests.

use super::arena::{Arena, Attack, again, concurrent};
use super::run::Scenario;
use crate::harness::text;
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Scenarios of this kind.
pub(super) const ALL: &[Scenario] = &[
    Scenario::new("read-nothing", "1,024 connections of 8 strangers that read nothing", |arena| {
        Box::pin(read_nothing(arena))
    }),
    Scenario::new("send-nothing", "1,024 connections of 8 strangers that send nothing", |arena| {
        Box::pin(send_nothing(arena))
    }),
    Scenario::new("send-nothing-everywhere", "the same of 1,024 strangers", |arena| {
        Box::pin(send_nothing_from_everywhere(arena))
    }),
    Scenario::new("slow-heads", "1,024 connections that send a byte of a head each second", |arena| {
        Box::pin(slow_heads(arena))
    }),
    Scenario::new("event-streams", "1,024 event streams of one session", |arena| Box::pin(streams(arena))),
    Scenario::new("slow-bins", "1,024 requests to a bin that answers after 30 s", |arena| Box::pin(slow_bins(arena))),
    Scenario::new("stalled-bodies", "150 bodies of 16 MiB that stop before their end", |arena| {
        Box::pin(stalled_bodies(arena))
    }),
    Scenario::new("bin-flood", "16 strangers who send 4 MiB to a bin", |arena| Box::pin(bin_flood(arena))),
    Scenario::new(
        "refused-requests",
        "48 strangers who flood unknown paths, wrong keys and failed sign-ins",
        |arena| Box::pin(refused_requests(arena)),
    ),
];

/// Maximum number of connections of the host.
const CONNECTIONS: usize = 1_024;

/// Holds a connection for each of `count` numbers, and opens another when it ends.
fn held<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    arena: &Arena,
    count: usize,
    peer: fn(usize) -> [u8; 4],
    hold: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
) -> Vec<Attack> {
    concurrent(count, |number| {
        let arena = arena.clone();
        let hold = hold.clone();
        again(move |_| {
            let arena = arena.clone();
            let hold = hold.clone();
            async move {
                if let Ok(socket) = arena.connect_from(peer(number)).await {
                    let _ = hold(socket).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    })
}

/// Returns the address of the nth connection if eight clients have all of them.
fn eight_peers(number: usize) -> [u8; 4] {
    [127, 2, 0, 1 + (number % 8) as u8]
}

/// Returns the address of the nth connection if each has a separate client.
fn own_peers(number: usize) -> [u8; 4] {
    [127, 3, (number / 250) as u8, 1 + (number % 250) as u8]
}

/// Waits until the host closes the connection.
async fn closed(socket: &mut TcpStream) -> std::io::Result<()> {
    let mut piece = [0; 4_096];
    while socket.read(&mut piece).await? > 0 {}
    Ok(())
}

async fn send_nothing(arena: Arena) -> Vec<Attack> {
    held(&arena, CONNECTIONS, eight_peers, |mut socket| async move { closed(&mut socket).await })
}

/// Holds connections from as many addresses.
async fn send_nothing_from_everywhere(arena: Arena) -> Vec<Attack> {
    held(&arena, CONNECTIONS, own_peers, |mut socket| async move { closed(&mut socket).await })
}

async fn slow_heads(arena: Arena) -> Vec<Attack> {
    held(&arena, CONNECTIONS, eight_peers, |mut socket| async move {
        socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await?;
        loop {
            socket.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
}

/// Requests more than a socket's buffers hold and reads nothing of it.
async fn read_nothing(arena: Arena) -> Vec<Attack> {
    held(&arena, CONNECTIONS, eight_peers, |mut socket| async move {
        socket.write_all(&b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(40)).await?;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            match socket.try_write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") {
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    })
}

/// Holds event streams of one session.
async fn streams(arena: Arena) -> Vec<Attack> {
    let cookie = arena.tenant("a").await.sign_in().await;
    let request: Arc<str> =
        format!("GET /t/a/live?topic=attempts HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\n\r\n").into();
    held(&arena, CONNECTIONS, eight_peers, move |mut socket| {
        let request = request.clone();
        async move {
            socket.write_all(request.as_bytes()).await?;
            closed(&mut socket).await
        }
    })
}

/// Sends requests to a bin that answers after half a minute.
async fn slow_bins(arena: Arena) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    let bin = tenant.ask(Method::POST, "./bins", json!({"reply": {"delay_ms": 30_000}}).to_string()).await;
    let request: Arc<str> =
        format!("POST /bins/{}/ HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", text(&bin, "id")).into();
    held(&arena, CONNECTIONS, eight_peers, move |mut socket| {
        let request = request.clone();
        async move {
            socket.write_all(request.as_bytes()).await?;
            closed(&mut socket).await
        }
    })
}

/// Sends batches of 16 MiB that stop one byte before their end.
async fn stalled_bodies(arena: Arena) -> Vec<Attack> {
    const BYTES: usize = 16 << 20;
    let tenant = arena.tenant("a").await;
    let head: Arc<str> = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {BYTES}\r\n\r\n",
        tenant.path("/events"),
        tenant.key
    )
    .into();
    let piece: Arc<[u8]> = vec![b' '; 1 << 20].into();
    held(&arena, arena.pick(150, 100), eight_peers, move |mut socket| {
        let head = head.clone();
        let piece = piece.clone();
        async move {
            socket.write_all(head.as_bytes()).await?;
            for _ in 1..BYTES / piece.len() {
                socket.write_all(&piece).await?;
            }
            socket.write_all(&piece[1..]).await?;
            closed(&mut socket).await
        }
    })
}

/// Sends requests that are refused: unknown paths, wrong keys, failed sign-ins, and public ones.
async fn refused_requests(arena: Arena) -> Vec<Attack> {
    let requests: [&[u8]; 6] = [
        b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/tenants/honest/ledger HTTP/1.1\r\nhost: x\r\nauthorization: Bearer hlk_wrong\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n\r\nkey=wrong",
        b"POST /in/hlt_wrong HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
        b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n",
    ];
    held(&arena, 48, eight_peers, move |mut socket| async move {
        let (mut reader, mut writer) = socket.split();
        let reading = async {
            let mut piece = vec![0; 1 << 16];
            while reader.read(&mut piece).await? > 0 {}
            Ok(())
        };
        let writing = async {
            loop {
                writer.write_all(&requests.concat()).await?;
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        }
    })
}

/// Sends bodies of 4 MiB to a bin, from clients that know its URL.
async fn bin_flood(arena: Arena) -> Vec<Attack> {
    let tenant = arena.tenant("a").await;
    let settings = json!({"body_bytes_max": 4 << 20, "requests_max": 1_000}).to_string();
    let bin = tenant.ask(Method::POST, "./bins", settings).await;
    let path = format!("/bins/{}/", text(&bin, "id"));
    concurrent(16, move |_| {
        let tenant = tenant.clone();
        let path = path.clone();
        again(move |_| {
            let tenant = tenant.clone();
            let path = path.clone();
            async move {
                tenant.try_ask(Method::POST, &path, vec![b'x'; 4 << 20]).await;
            }
        })
    })
}
