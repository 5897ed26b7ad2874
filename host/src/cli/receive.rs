//! `hookloom receive`: a receiver for trying things out, also the one that the demo and the tests start beside a host.
//!
//! Verifies with the published `standardwebhooks` library, not with our own code: what it accepts, every receiver that
//! follows Standard Webhooks accepts.

use super::Failure;
use super::terminal::{self, Quoted, outln};
use crate::plural::counted;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use clap::Args;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Map, Value, json};
use standardwebhooks::Webhook;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

/// How to receive.
#[derive(Args)]
pub(super) struct ReceiveArgs {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// The signing secret (`whsec_…`) to verify with; several may be given. Without one, nothing is verified.
    #[arg(long, env = "HOOKLOOM_SIGNING_SECRET", hide_env_values = true, value_delimiter = ',')]
    secret: Vec<String>,
    /// The statuses to answer with, in turn; the last one is repeated.
    #[arg(long, value_name = "STATUS,…", value_delimiter = ',', default_value = "200")]
    respond: Vec<u16>,
    /// Print JSON, one request a line.
    #[arg(long)]
    json: bool,
}

struct Receiver {
    verifiers: Vec<Webhook>,
    statuses: Vec<StatusCode>,
    received: AtomicUsize,
    json: bool,
}

pub(super) async fn receive(args: ReceiveArgs) -> Result<(), Failure> {
    let verifier =
        |secret: &String| Webhook::new(secret).map_err(|error| format!("a signing secret cannot be used: {error}"));
    let status = |status: &u16| StatusCode::from_u16(*status).map_err(|_| format!("{status} is no HTTP status"));
    let receiver = Receiver {
        verifiers: args.secret.iter().map(verifier).collect::<Result<_, _>>()?,
        statuses: args.respond.iter().map(status).collect::<Result<_, _>>()?,
        received: AtomicUsize::new(0),
        json: args.json,
    };
    let listener = TcpListener::bind(&args.listen).await.map_err(|error| format!("{}: {error}", args.listen))?;
    let address = listener.local_addr()?;
    if args.json {
        terminal::json(&json!({"listening": format!("http://{address}/")}))?;
    } else {
        outln!("listening on http://{}/", address);
    }
    axum::serve(listener, Router::new().fallback(take).with_state(Arc::new(receiver))).await?;
    Ok(())
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let count = receiver.received.fetch_add(1, Ordering::Relaxed);
    let status = receiver.statuses[count.min(receiver.statuses.len() - 1)];
    let verified = verify(&receiver.verifiers, &body, &headers);
    // Printed before the answer goes out: who reads our lines never misses a request that was answered.
    if receiver.json {
        // A value in memory becomes JSON without fail.
        let _ = terminal::json(&as_json(&uri, &headers, &body, &verified, status));
    } else {
        print(&method, &uri, &headers, &body, &verified, status);
    }
    (status, "")
}

fn verify(verifiers: &[Webhook], body: &[u8], headers: &HeaderMap) -> Result<bool, String> {
    let mut outcome = Ok(false);
    for verifier in verifiers {
        match verifier.verify(body, headers) {
            Ok(()) => return Ok(true),
            Err(error) => outcome = Err(error.to_string()),
        }
    }
    outcome
}

fn as_json(uri: &Uri, headers: &HeaderMap, body: &[u8], verified: &Result<bool, String>, status: StatusCode) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Map<String, Value> =
        headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()).into())).collect();
    json!({
        "path": uri.path(),
        "headers": headers,
        "body": text(body),
        "verified": verified.as_ref().is_ok_and(|verified| *verified),
        "verify_error": verified.as_ref().err(),
        "status": status.as_u16(),
        "at_ms": crate::store::now_ms(),
    })
}

/// Prints a request: what is ours to say on lines of their own, the body behind a gutter.
fn print(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    verified: &Result<bool, String>,
    status: StatusCode,
) {
    let id = headers.get("webhook-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
    let signature = match verified {
        Ok(true) => "signature verified".to_owned(),
        Ok(false) => "signature not checked".to_owned(),
        Err(error) => format!("SIGNATURE REFUSED: {error}"),
    };
    // In one piece: requests that come at once do not mix.
    outln!(
        "{} {}\nwebhook-id {}\n{}, answered {}\n{}\n{}",
        method,
        uri.path(),
        id.as_deref().unwrap_or("is missing"),
        counted(body.len() as u64, "byte", "bytes"),
        status.as_u16(),
        signature,
        Quoted(&String::from_utf8_lossy(body))
    );
}
