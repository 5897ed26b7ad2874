//! Message about an incident of the tenant: what is wrong, what to do, and a link to the page that shows it.

use crate::{HEADER_CHARS_MAX, TEXT_CHARS_MAX, cut, escaped};
use hookloom_sdk::json::{Map, Value, json};

/// Returns the message about the `eventData` of an incident that has opened or is over.
pub(crate) fn message(incident: &Map<String, Value>) -> Value {
    let is_over = incident.get("closed_at_ms").is_some_and(|time| !time.is_null());
    let headline = match (is_over, text(incident, "severity")) {
        (true, _) => "Incident is over",
        (false, "critical") => "Critical incident",
        (false, _) => "Incident",
    };
    let title = escaped(text(incident, "title"));
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": cut(headline, HEADER_CHARS_MAX)}}),
        section(&format!("*{title}*")),
    ];
    if !is_over {
        blocks.push(section(&escaped(text(incident, "next_step"))));
    }
    let mut origin = escaped(text(incident, "kind"));
    let link = text(incident, "link");
    if !link.is_empty() {
        origin = format!("<{}|Open in Hookloom> - {origin}", escaped(link).replace('|', "%7C"));
    }
    let element = json!({"type": "mrkdwn", "text": cut(&origin, TEXT_CHARS_MAX)});
    blocks.push(json!({"type": "context", "elements": [element]}));
    json!({"text": cut(&format!("{headline}: {title}"), TEXT_CHARS_MAX), "blocks": blocks})
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": cut(text, TEXT_CHARS_MAX)}})
}

fn text<'d>(data: &'d Map<String, Value>, name: &str) -> &'d str {
    data.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(changes: Value, expected: [&str; 3]) {
        let mut incident = json!({
            "kind": "webhook-failing", "severity": "warning", "title": "Webhook \"<!channel>\" fails",
            "next_step": "Look at the answers.", "link": "https://hooks.example/t/default?a=1&b=|x", "closed_at_ms": null,
        });
        let fields = incident.as_object_mut().expect("an object");
        fields.extend(changes.as_object().cloned().expect("an object"));
        let message = message(fields);
        let blocks = message["blocks"].as_array().expect("blocks");
        let last = &blocks[blocks.len() - 1]["elements"][0]["text"];
        let found = [&message["text"], &blocks[0]["text"]["text"], last].map(|one| one.as_str().expect("a text"));
        assert_eq!(found, expected, "{message}");
    }

    #[test]
    fn an_incident_has_its_next_step_and_no_markup_of_others() {
        let origin = "<https://hooks.example/t/default?a=1&amp;b=%7Cx|Open in Hookloom> - webhook-failing";
        let title = "Webhook \"&lt;!channel&gt;\" fails";
        check(json!({}), [&format!("Incident: {title}"), "Incident", origin]);
        check(json!({"severity": "critical"}), [&format!("Critical incident: {title}"), "Critical incident", origin]);
        check(json!({"closed_at_ms": 1}), [&format!("Incident is over: {title}"), "Incident is over", origin]);
        check(json!({"link": ""}), [&format!("Incident: {title}"), "Incident", "webhook-failing"]);
    }
}
