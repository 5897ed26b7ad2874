//! Sends the payload in another envelope or encoding, optionally with an HMAC or an idempotency header.
//!
//! Config `as`: `cloudevents` (structured JSON, CloudEvents 1.0.2), `standard-webhooks` (`{type, timestamp, data}`), `form` (WHATWG
//! URL), `csv` (RFC 4180), `xml`, or `json` for the payload itself. Config `fields`: for `form` and `csv`, the fields as paths; all
//! of them in `form` if absent. Config `hmac_header` and `hmac_secret` (a secret's name): HMAC-SHA256 of the body in hex, after
//! `hmac_prefix`. Config `idempotency_header`: a header with an id that every attempt repeats.

mod encode;
#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Value, json};
use hookloom_sdk::{Body, Event, Failure, Outgoing, Plugin, Verdict, config, export, secrets, time};

struct Wrap;

impl Plugin for Wrap {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let mut outgoing = wrapped(event)?;
        if let Some(header) = config::get("hmac_header") {
            let signature = signature(&outgoing.body)?;
            outgoing = outgoing.header(header, signature);
        }
        if let Some(header) = config::get("idempotency_header") {
            outgoing = outgoing.header(header, format!("{}:{}", event.subscription, event.id));
        }
        Ok(Verdict::Replace(outgoing))
    }
}

export!(Wrap, manifest: "manifest.json");

fn wrapped(event: &Event) -> Result<Outgoing, Failure> {
    let fields = config::list("fields");
    let kind = config::get("as").unwrap_or_else(|| "json".to_owned());
    Ok(match kind.as_str() {
        "json" => Outgoing::text("application/json", event.payload.clone()),
        "cloudevents" => Outgoing::text("application/cloudevents+json", cloud_event(event)?.to_string()),
        "standard-webhooks" => {
            Outgoing::json(&json!({"type": type_of(event), "timestamp": timestamp(event), "data": event.json()?}))
        }
        "form" => Outgoing::text("application/x-www-form-urlencoded", encode::form(&event.json()?, &fields)),
        "csv" if fields.is_empty() => {
            return Err(Failure::bad_config("no-fields", "csv needs `fields`, such as `eventName, eventData.id`"));
        }
        "csv" => Outgoing::text("text/csv; charset=utf-8", encode::csv(&event.json()?, &fields)),
        "xml" => Outgoing::text("application/xml", encode::xml(&event.json()?)),
        other => {
            let all = "json, cloudevents, standard-webhooks, form, csv, xml";
            return Err(Failure::bad_config("no-choice", format!("as is {other:?}; it can be one of {all}")));
        }
    })
}

/// Returns `contact.created` for `Contact is Created`; opportunities are called deals.
fn type_of(event: &Event) -> String {
    event.name.to_lowercase().replace("opportunity", "deal").replace(" is ", ".").replace(' ', "_")
}

/// Returns the time of acceptance, which a plugin's clock shows, so that every attempt returns the same.
fn timestamp(event: &Event) -> String {
    time::rfc3339(i64::try_from(event.received_at_ms / 1_000).unwrap_or_default()).unwrap_or_default()
}

fn cloud_event(event: &Event) -> Result<Value, Failure> {
    let mut whole = json!({
        "specversion": "1.0",
        "id": event.id,
        "source": format!("/hookloom/{}", event.tenant),
        "type": format!("com.agilecrm.{}", type_of(event)),
        "time": timestamp(event),
        "datacontenttype": "application/json",
    });
    if let Some(entity) = &event.entity_id {
        whole["subject"] = json!(entity);
    }
    whole["data"] = event.json()?;
    Ok(whole)
}

fn signature(body: &Body) -> Result<String, Failure> {
    let name = config::get("hmac_secret")
        .ok_or_else(|| Failure::bad_config("no-secret", "hmac_header needs hmac_secret, the name of a secret"))?;
    let bytes = match body {
        Body::Text(text) => text.as_bytes(),
        Body::Binary(bytes) => bytes,
    };
    let hash = secrets::hmac_sha256(&name, bytes)?;
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}{hex}", config::get("hmac_prefix").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::testing;

    const EVENT: &str = r#"{"eventName":"Opportunity is Updated","eventData":{"id":7,"name":"a & b"}}"#;

    #[track_caller]
    fn check(config: &[(&str, &str)], content_type: Option<&str>, body: &str) -> Vec<(String, String)> {
        match testing::run::<Wrap>(EVENT, config) {
            Ok(Verdict::Replace(outgoing)) => {
                assert_eq!(
                    (outgoing.content_type.as_deref(), outgoing.body),
                    (content_type, Body::Text(body.to_owned()))
                );
                outgoing.headers
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn envelopes() {
        check(&[], Some("application/json"), EVENT);
        let event = format!(
            r#"{{"specversion":"1.0","id":"0192f0c4-0000-7000-8000-000000000000","source":"/hookloom/default","type":"com.agilecrm.deal.updated","time":"2024-03-01T01:00:00Z","datacontenttype":"application/json","subject":"7","data":{EVENT}}}"#
        );
        check(&[("as", "cloudevents")], Some("application/cloudevents+json"), &event);
        let webhook = format!(r#"{{"type":"deal.updated","timestamp":"2024-03-01T01:00:00Z","data":{EVENT}}}"#);
        check(&[("as", "standard-webhooks")], None, &webhook);
        check(
            &[("as", "csv"), ("fields", "eventData.id, eventData.name")],
            Some("text/csv; charset=utf-8"),
            "7,a & b\r\n",
        );
        assert!(matches!(testing::run::<Wrap>(EVENT, &[("as", "csv")]), Err(Failure::BadConfig(_))));
        assert!(matches!(testing::run::<Wrap>(EVENT, &[("as", "yaml")]), Err(Failure::BadConfig(_))));
    }

    #[test]
    fn headers() {
        testing::set_secret("key", b"key");
        let config = [
            ("hmac_header", "x-signature"),
            ("hmac_secret", "key"),
            ("hmac_prefix", "sha256="),
            ("idempotency_header", "idempotency-key"),
        ];
        let headers = check(&config, Some("application/json"), EVENT);
        assert_eq!(headers[0].0, "x-signature");
        assert!(headers[0].1.starts_with("sha256=") && headers[0].1.len() == 7 + 64);
        assert!(headers[1].1.ends_with(":0192f0c4-0000-7000-8000-000000000000"));
        assert!(matches!(testing::run::<Wrap>(EVENT, &[("hmac_header", "x")]), Err(Failure::BadConfig(_))));
    }
}
