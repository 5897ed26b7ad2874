//! Converts a won deal or an incident into a message for a Slack incoming webhook: a text for notifications, and blocks.
//!
//! Config, all optional and of deals: `milestones` (comma list, `Won`): stages with a message; `currency` (`$`): text before the
//! value; `title` (`Deal won`, or `Deal: <milestone>` for other stages). Everything else is dropped.
//!
//! Slack's rules (api.slack.com, "Formatting text", "Block Kit"): `&`, `<` and `>` are escaped in text, a header has at most 150
//! characters, a text at most 3,000.

mod incident;
#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Value, json};
use hookloom_sdk::{Deal, Decimal, Event, Failure, Plugin, Verdict, config, export, time};

struct Slack;

impl Plugin for Slack {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        if event.module.as_deref() == Some("Incident") {
            return Ok(Verdict::json(&incident::message(&event.data()?)));
        }
        if !event.is_deal() {
            return Ok(Verdict::drop("not-a-deal", "only deals and incidents become messages"));
        }
        let deal = event.deal()?;
        let milestone = deal.milestone().unwrap_or_default().into_owned();
        let mut wanted = config::list("milestones");
        if wanted.is_empty() {
            wanted.push("Won".to_owned());
        }
        if !wanted.contains(&milestone) {
            return Ok(Verdict::drop(
                "not-won",
                format!("milestone {milestone:?} is not one of {}", wanted.join(", ")),
            ));
        }
        Ok(Verdict::json(&message(&deal, &milestone)))
    }
}

export!(Slack, manifest: "manifest.json");

const HEADER_CHARS_MAX: usize = 150;
const TEXT_CHARS_MAX: usize = 3_000;

fn message(deal: &Deal, milestone: &str) -> Value {
    let default_title = if milestone == "Won" { "Deal won".to_owned() } else { format!("Deal: {milestone}") };
    let title = config::get("title").unwrap_or(default_title);
    let name = escaped(deal.name().as_deref().unwrap_or("Deal without a name"));
    let value = deal.decimal("expected_value").map(|value| money(&value));
    let summary = [Some(escaped(&title)), Some(name.clone()), value.clone()];
    let text = if title == "Deal won" { joined(&summary, ": ", " - ") } else { joined(&summary, " - ", " - ") };

    let mut fields = Vec::new();
    let mut field = |label: &str, value: Option<String>| {
        fields.extend(value.map(|value| json!({"type": "mrkdwn", "text": cut(&format!("*{label}*\n{value}"), 2_000)})));
    };
    let owner = deal.owner().and_then(hookloom_sdk::Owner::name).or_else(|| deal.owner_id());
    field("Value", value);
    field("Owner", owner.map(|owner| escaped(&owner)));
    field("Stage", Some(escaped(milestone)));
    field("Won on", deal.time_s("won_date").and_then(time::date));

    let mut origin = format!("Deal {}", deal.id().unwrap_or_default());
    for contact in deal.contact_ids() {
        origin.push_str(&format!(" - contact {contact}"));
    }
    json!({
        "text": cut(&text, TEXT_CHARS_MAX),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": cut(&title, HEADER_CHARS_MAX)}},
            {"type": "section", "text": {"type": "mrkdwn", "text": cut(&format!("*{name}*"), TEXT_CHARS_MAX)}},
            {"type": "section", "fields": fields},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": cut(&escaped(&origin), TEXT_CHARS_MAX)}]},
        ],
    })
}

fn joined(parts: &[Option<String>; 3], first: &str, second: &str) -> String {
    let [title, name, value] = parts.each_ref().map(|part| part.as_deref().unwrap_or_default());
    let tail = if value.is_empty() { String::new() } else { format!("{second}{value}") };
    format!("{title}{first}{name}{tail}")
}

/// Formats a value with separated thousands, and with cents only if there are some. A value with more than 38 digits is not a
/// readable amount, and is written as sent.
fn money(value: &Decimal) -> String {
    let currency = escaped(&config::get("currency").unwrap_or_else(|| "$".to_owned()));
    let Some(cents) = value.scaled(2) else { return format!("{currency}{value}") };
    let digits = (cents.unsigned_abs() / 100).to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    let rest = cents.unsigned_abs() % 100;
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:02}") };
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{currency}{}{fraction}", grouped.join(","))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns at most this many characters, without cutting an escape.
fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(chars_max - 1).collect();
    if let Some(start) = kept.rfind('&').filter(|start| !kept[*start..].contains(';')) {
        kept.truncate(start);
    }
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::{Body, json, testing};

    const WON: &str = include_str!("../../../tests/fixtures/opportunity_updated_won.json");

    fn sent(payload: &str, config: &[(&str, &str)]) -> Value {
        match testing::run::<Slack>(payload, config) {
            Ok(Verdict::Replace(outgoing)) => match outgoing.body {
                Body::Text(text) => json::from_str(&text).expect("JSON"),
                Body::Binary(_) => panic!("a text is sent"),
            },
            other => panic!("nothing is sent: {other:?}"),
        }
    }

    #[test]
    fn a_won_deal_is_the_documented_message() {
        let expected: Value =
            json::from_str(include_str!("../../../tests/fixtures/expected/slack_deal_won.json")).expect("JSON");
        assert_eq!(sent(WON, &[]), expected["expected"]);
    }

    #[test]
    fn others_are_dropped() {
        let lost = include_str!("../../../tests/fixtures/opportunity_updated_lost.json");
        assert_eq!(
            testing::run::<Slack>(lost, &[]),
            Ok(Verdict::drop("not-won", "milestone \"Lost\" is not one of Won"))
        );
        assert_eq!(sent(lost, &[("milestones", "Won,Lost")])["blocks"][0]["text"]["text"], "Deal: Lost");
        let contact = include_str!("../../../tests/fixtures/contact_edge_cases.json");
        let expected = Verdict::drop("not-a-deal", "only deals and incidents become messages");
        assert_eq!(testing::run::<Slack>(contact, &[]), Ok(expected));
    }

    #[test]
    fn names_cannot_smuggle_markup_and_long_ones_are_cut() {
        let name = format!("<!channel> & {}", "x&".repeat(2_000));
        let payload =
            json!({"eventName": "Opportunity is Updated", "eventData": {"milestone": "Won", "name": name}}).to_string();
        let message = sent(&payload, &[]);
        let text = message["blocks"][1]["text"]["text"].as_str().expect("a text");
        assert!(text.starts_with("*&lt;!channel&gt; &amp; x&amp;") && text.chars().count() <= 3_000, "{text}");
        assert!(text.ends_with("…") && !text.ends_with("&am…"));
    }

    #[test]
    fn money_is_grouped() {
        for (value, expected) in [
            ("0", "$0"),
            ("999.0", "$999"),
            ("1234567.5", "$1,234,567.50"),
            ("-1000", "-$1,000"),
            ("-0.001", "$0"),
            ("92233720368547758.08", "$92,233,720,368,547,758.08"),
            ("184467440737095516.16", "$184,467,440,737,095,516.16"),
            ("1e21", "$1,000,000,000,000,000,000,000"),
            ("1.5e400", "$1.5e+400"),
        ] {
            assert_eq!(money(&Decimal::parse(value).expect("a number")), expected);
        }
    }
}
