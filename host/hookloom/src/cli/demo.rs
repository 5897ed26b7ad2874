//! `hookloom demo`: four events from intake to receiver, shown and checked.
//!
//! The demo needs nothing but this program. It starts a real host on a store in a temporary folder, and a real receiver in a separate process, which verifies
//! signatures with the published library. It sends the payloads of the vendor's guide to `/in/{token}`, as Agile CRM does. It ends
//! by itself, and fails if a result is not the expected one. The demo's host allows Notify URLs with loopback addresses, and says
//! so.

mod receiver;
mod show;

use super::Failure;
use super::client::{HostClient, JSON};
use crate::app::App;
use crate::clock;
use crate::config::Config;
use crate::operations::{SAMPLE_EVENTS, SampleEvent};
use crate::plural::counted;
use crate::signature::SigningSecret;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use bytes::Bytes;
use http::Method;
use receiver::DemoReceiver;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Subscription of a plugin of the library: its name, modules, config, and the expected verdicts for the four events.
struct Example {
    plugin: &'static str,
    modules: &'static [&'static str],
    config: &'static [(&'static str, &'static str)],
    verdicts: [&'static str; 4],
}

const EXAMPLES: [Example; 4] = [
    Example { plugin: "flatten", modules: &["Contact"], config: &[], verdicts: ["replace", "replace", "", ""] },
    Example { plugin: "redact", modules: &["Contact"], config: &[], verdicts: ["replace", "replace", "", ""] },
    Example {
        plugin: "deal-filter",
        modules: &["Deal"],
        config: &[("min_probability", "97")],
        verdicts: ["", "", "drop", "pass"],
    },
    Example {
        plugin: "slack",
        modules: &["Deal"],
        config: &[("milestones", "Won,Proposal")],
        verdicts: ["", "", "replace", "replace"],
    },
];

/// Maximum duration of a step of the demo, after which it fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn demo() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let config = Config {
        data_dir: folder.path().to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        allow_loopback: true,
        ..Config::default()
    };
    let app = App::start(config, None).await?;
    show::started(&app.address);
    let mut key = String::new();
    app.show_first_key(|first| {
        key.clone_from(&first.key);
        Ok(())
    })
    .await?;
    let outcome = run(&app, &key).await;
    app.stop().await;
    let faults = outcome?;
    show::ended(&faults);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("{} failed", counted(faults.len() as u64, "check", "checks")).into())
    }
}

/// Runs the demo on a started host. Returns the differences from the expected results.
async fn run(app: &App, key: &str) -> Result<Vec<String>, Failure> {
    let secret = SigningSecret::generate().reveal();
    let mut receiver = DemoReceiver::start(&secret).await?;
    let host = Demo { host: HostClient::new(&format!("http://{}", app.address), key)? };
    host.set_up(&receiver, &secret).await?;
    let token = host.post(&default_tenant("intake-tokens"), &json!({"label": "Agile CRM"})).await?;
    let intake = token["path"].as_str().and_then(UrlPath::local).ok_or("the host made no intake address")?;

    let started = clock::instant();
    let mut faults = Vec::new();
    let mut deliveries = Vec::new();
    for (index, SampleEvent { file, payload, .. }) in SAMPLE_EVENTS.iter().enumerate() {
        show::event(index + 1, file, payload);
        let echo = host.host.ask(Method::POST, &intake, JSON, Bytes::from_static(payload.as_bytes())).await?;
        if echo != serde_json::from_str::<Value>(payload)? {
            faults.push(format!("{file}: /in did not answer with the event"));
        }
        for (example, delivery) in host.settled(index).await? {
            let received = receiver.of(delivery["id"].as_str().unwrap_or_default(), &delivery).await?;
            faults.extend(check(example, index, payload, &delivery, received.as_ref()));
            show::delivery(example.plugin, payload, &delivery, received.as_ref());
            deliveries.push((example.plugin, delivery, received));
        }
    }
    let ledger = host.get(&default_tenant("ledger")).await?;
    let count = |name: &str| ledger[name].as_u64().unwrap_or(u64::MAX);
    let ended: u64 =
        ["delivered", "dropped", "dead", "cancelled", "superseded", "pending"].iter().map(|name| count(name)).sum();
    if count("fan_out") != ended {
        faults.push(format!("the ledger does not balance: {ledger}"));
    }
    show::summary(&deliveries, &ledger, clock::since(started));
    Ok(faults)
}

/// Compares the receiver's and the host's records of one delivery with the expected ones, and returns the differences.
fn check(example: &Example, index: usize, payload: &str, delivery: &Value, received: Option<&Value>) -> Vec<String> {
    let attempt = &delivery["attempts"][0];
    let wanted = example.verdicts[index];
    let body = received.and_then(|received| received["body"].as_str());
    let sent = wanted == "pass" || wanted == "replace";
    let rules = [
        (attempt["verdict"] == wanted, format!("the verdict is {} instead of {wanted}", attempt["verdict"])),
        (
            delivery["state"] == if sent { "delivered" } else { "dropped" },
            format!("its state is {}", delivery["state"]),
        ),
        (received.is_some() == sent, "the receiver got something else than the host says".to_owned()),
        (received.is_none_or(|received| received["verified"] == true), "the signature was refused".to_owned()),
        (wanted != "pass" || body == Some(payload), "bytes were touched although the verdict is pass".to_owned()),
        (
            body.is_none_or(|body| attempt["body_sha256"] == sha256(body)),
            "the recorded sha256 is not the body's".to_owned(),
        ),
    ];
    let broken = rules.into_iter().filter(|(holds, _)| !holds);
    broken.map(|(_, what)| format!("{} of event {}: {what}", example.plugin, index + 1)).collect()
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

struct Demo {
    host: HostClient,
}

/// Returns the path of a collection of the default tenant.
fn default_tenant(collection: &'static str) -> UrlPath {
    UrlPath::api_of(&TenantId::default()).then(collection)
}

impl Demo {
    async fn get(&self, path: &UrlPath) -> Result<Value, Failure> {
        self.host.ask(Method::GET, path, JSON, Bytes::new()).await
    }

    async fn post(&self, path: &UrlPath, body: &Value) -> Result<Value, Failure> {
        self.host.ask(Method::POST, path, JSON, Bytes::from(serde_json::to_vec(body)?)).await
    }

    /// Adds the plugins from the host's library, and creates a subscription for each.
    async fn set_up(&self, receiver: &DemoReceiver, secret: &str) -> Result<(), Failure> {
        for example in &EXAMPLES {
            let version = self.post(&default_tenant("plugins"), &json!({"library": example.plugin})).await?;
            show::plugin(example.plugin, &version);
            let config: serde_json::Map<String, Value> =
                example.config.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
            let subscription = json!({
                "notify_url": format!("{}{}", receiver.url, example.plugin),
                "modules": example.modules,
                "plugin": example.plugin,
                "config": config,
                "description": example.plugin,
                "signing_secret": secret,
            });
            self.post(&default_tenant("subscriptions"), &subscription).await?;
        }
        Ok(())
    }

    /// Returns the deliveries of the newest event with their attempts, once none is pending, in the order of the examples.
    async fn settled(&self, index: usize) -> Result<Vec<(&'static Example, Value)>, Failure> {
        let subscriptions = self.get(&default_tenant("subscriptions")).await?;
        let give_up = clock::instant() + PATIENCE;
        loop {
            let wanted = EXAMPLES.iter().filter(|example| !example.verdicts[index].is_empty()).count();
            let page = self.get(&default_tenant("deliveries").query("limit", wanted)).await?;
            let deliveries = page["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default();
            if deliveries.iter().all(|delivery| delivery["state"] != "pending") {
                return self.details(deliveries, &subscriptions).await;
            }
            if clock::instant() > give_up {
                return Err(
                    format!("the deliveries of event {} did not end within {PATIENCE:?}: {page}", index + 1).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn details(
        &self,
        deliveries: &[Value],
        subscriptions: &Value,
    ) -> Result<Vec<(&'static Example, Value)>, Failure> {
        let mut found = Vec::new();
        for example in &EXAMPLES {
            let subscription =
                subscriptions.as_array().into_iter().flatten().find(|one| one["description"] == example.plugin);
            let id = subscription.map(|one| one["id"].clone()).unwrap_or_default();
            for delivery in deliveries.iter().filter(|delivery| delivery["subscription"] == id) {
                let id: Uuid = delivery["id"].as_str().unwrap_or_default().parse()?;
                found.push((example, self.get(&default_tenant("deliveries").then(&id)).await?));
            }
        }
        Ok(found)
    }
}
