//! Body of a delivery: as the plugins make it of the event now, whether that is what an attempt sent, and the attempt's request as a
//! command of curl.
//!
//! The store keeps the sha256 of a sent body, not its bytes. They are made again and compared.

use crate::api::ApiState;
use crate::api::pages::curl::{CurlCommand, of_attempt};
use crate::api::pages::diff::Diff;
use crate::api::pages::short;
use crate::delivery::{Attempt, Verdict};
use crate::event::Event;
use crate::limits::cut;
use crate::plugin::{PluginInput, Shown};
use crate::subscription::Subscription;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Maximum size of a body on the page, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Body for display.
pub(super) struct SentBody {
    /// Sentence that says which attempt sent it, if one did.
    pub(super) words: String,
    pub(super) diff: Diff,
    /// Body in its own bytes, or their beginning. Empty: nothing is sent.
    pub(super) text: String,
    pub(super) bytes: u64,
    pub(super) curl: Option<CurlCommand>,
    /// True if the signature of the command is that of another body.
    pub(super) is_signature_of_another: bool,
}

/// Body that plugins make of an event.
pub(in crate::api::pages) struct MadeBody {
    pub(in crate::api::pages) diff: Diff,
    /// None: nothing would be sent.
    body: Option<String>,
}

/// Returns the event, and the present result of the subscription's plugins for it.
pub(in crate::api::pages) async fn made_now(
    state: &ApiState,
    event: Arc<Event>,
    subscription: Option<Arc<Subscription>>,
) -> MadeBody {
    let same = |label: &str| MadeBody { diff: Diff::same(label, event.text()), body: Some(event.text().to_owned()) };
    let Some(subscription) = subscription else {
        return same("The webhook was deleted; the event:");
    };
    if subscription.settings.plugin.0.is_empty() {
        return same("There is no plugin: the event is sent unchanged.");
    }
    let previous = state.operations.store.previous(subscription.tenant.clone(), &event).await.ok().flatten();
    let judged = state
        .operations
        .plugins
        .judge_with(PluginInput { previous, ..PluginInput::new(event.clone(), subscription) })
        .await;
    let shown = Shown::new(judged, &event);
    match (shown.verdict, shown.body) {
        (Verdict::Replace, Some(body)) => MadeBody { diff: Diff::new(event.text(), body.as_str()), body: Some(body) },
        (Verdict::Pass, _) => same("The plugin passes it unchanged."),
        (verdict, _) => {
            let reason = shown.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let diff = Diff::words(format!("Nothing would be sent; the plugin says {verdict}{reason}"));
            MadeBody { diff, body: None }
        }
    }
}

impl SentBody {
    /// Compares a body with those that attempts sent.
    pub(super) fn of(made: MadeBody, attempts: &[Attempt]) -> Self {
        let MadeBody { diff, body } = made;
        let sha256 = body.as_ref().map(|body| hex::encode(Sha256::digest(body)));
        let source = BodySource::of(sha256.as_deref(), attempts);
        let request = match source {
            BodySource::Attempt(attempt) | BodySource::Another(attempt) => attempt.request.as_deref(),
            BodySource::Nobody => None,
        };
        let body = body.unwrap_or_default();
        SentBody {
            words: source.words(sha256.is_some()),
            curl: request.filter(|_| sha256.is_some()).and_then(|request| of_attempt(request, &body)),
            is_signature_of_another: matches!(source, BodySource::Another(_)),
            bytes: body.len() as u64,
            text: cut(&body, BODY_BYTES_MAX).to_owned(),
            diff,
        }
    }
}

/// Attempt that a body is compared with.
#[derive(Clone, Copy)]
enum BodySource<'a> {
    /// The last one that sent this body.
    Attempt(&'a Attempt),
    /// The last one that sent a body, which is another one.
    Another(&'a Attempt),
    /// No attempt has sent a body.
    Nobody,
}

impl<'a> BodySource<'a> {
    fn of(sha256: Option<&str>, attempts: &'a [Attempt]) -> Self {
        let sent = attempts.iter().rev().filter(|attempt| attempt.body_sha256.is_some());
        let same = sent.clone().find(|attempt| attempt.body_sha256.as_deref() == sha256);
        match (same, sent.clone().next()) {
            (Some(attempt), _) => BodySource::Attempt(attempt),
            (None, Some(attempt)) => BodySource::Another(attempt),
            (None, None) => BodySource::Nobody,
        }
    }

    fn words(self, has_body: bool) -> String {
        let now = if has_body { "The body below is what the next attempt would send." } else { "" };
        let words = match self {
            BodySource::Attempt(attempt) => {
                return format!(
                    "Attempt {} sent this body: it is made again from the event, and its sha256 is the recorded one.",
                    attempt.number
                );
            }
            BodySource::Another(attempt) => format!(
                "Attempt {} sent another body, of which only the sha256 is kept ({}): a plugin, its version or its config has changed since.",
                attempt.number,
                attempt.body_sha256.as_deref().map(short).unwrap_or_default()
            ),
            BodySource::Nobody => "No attempt has sent a body.".to_owned(),
        };
        format!("{words} {now}").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32, body: Option<&str>) -> Attempt {
        let json = serde_json::json!({
            "number": number, "started_at_ms": 0, "plugin_us": null, "post_us": null, "plugin_sha256": null, "config_generation": 1,
            "verdict": null, "body_sha256": body.map(|body| hex::encode(Sha256::digest(body))), "status": 200,
            "outcome": "delivered", "reason": null, "echoed": false, "request": ["POST http://a.example/", "webhook-signature: v1,x"],
            "response": null, "steps": [], "log": [],
        });
        serde_json::from_value(json).expect("an attempt")
    }

    /// Checks the words for a body, and whether there is a command whose signature is that of another body.
    #[track_caller]
    fn check(body: Option<&str>, attempts: &[Attempt], expected: &str, command: Option<bool>) {
        let made = MadeBody { diff: Diff::words(""), body: body.map(str::to_owned) };
        let sent = SentBody::of(made, attempts);
        assert!(sent.words.starts_with(expected), "{}", sent.words);
        assert_eq!(sent.curl.map(|_| sent.is_signature_of_another), command);
        assert_eq!(sent.text, body.unwrap_or_default());
    }

    #[test]
    fn a_body_is_that_of_an_attempt_by_its_hash() {
        let attempts = [attempt(1, Some("one")), attempt(2, Some("two")), attempt(3, None)];
        check(Some("two"), &attempts, "Attempt 2 sent this body: ", Some(false));
        check(Some("one"), &attempts, "Attempt 1 sent this body: ", Some(false));
        check(
            Some("three"),
            &attempts,
            "Attempt 2 sent another body, of which only the sha256 is kept (3fc4ccfe7458)",
            Some(true),
        );
        check(None, &attempts, "Attempt 2 sent another body", None);
        check(Some("one"), &attempts[2..], "No attempt has sent a body. The body below is what", None);
        check(None, &[], "No attempt has sent a body.", None);
    }
}
