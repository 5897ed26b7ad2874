//! Uses everything that the contract has, and answers what its config `do` says. As it was built for 1.0.0 it is a
//! fixture: every later host must run it.

use hookloom_sdk::{
    Body, Event, Failure, Outgoing, Plugin, Reason, Verdict, config, export, history, json, log, secrets,
};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        log::debug("a");
        log::info("b");
        log::warn("c");
        log::error("d");
        let why = Reason::new("why", "as it was told");
        match config::get("do").as_deref() {
            Some("pass") => Ok(Verdict::Pass),
            Some("drop") => Ok(Verdict::Drop(why)),
            Some("later") => Ok(Verdict::Later { delay_ms: 60_000, reason: why }),
            Some("invalid-event") => Err(Failure::InvalidEvent(why)),
            Some("transient") => Err(Failure::Transient(why)),
            Some("bad-config") => Err(Failure::BadConfig(why)),
            Some("binary") => {
                Ok(Verdict::Replace(Outgoing::binary("application/octet-stream", vec![0, 159, 146, 150])))
            }
            _ => Ok(Verdict::Replace(everything(event))),
        }
    }
}

fn everything(event: &Event) -> Outgoing {
    let seen = json::json!({
        "id": event.id,
        "tenant": event.tenant,
        "subscription": event.subscription,
        "name": event.name,
        "module": event.module,
        "entity_id": event.entity_id,
        "received_at_ms": event.received_at_ms,
        "attributes": event.attributes,
        "config": config::entries(),
        "hmac_bytes": secrets::hmac_sha256("key", b"data").map(|hash| hash.len()).ok(),
        "no_secret": secrets::hmac_sha256("none", b"data").is_err(),
        "previous": history::previous().map(|previous| previous.payload),
    });
    let outgoing = Outgoing::json(&seen).header("x-first", "1").header("x-second", "2");
    let body = Body::Text(seen.to_string());
    Outgoing { body, content_type: Some("application/vnd.seen+json".into()), url: config::get("url"), ..outgoing }
}

export!(Guest);
