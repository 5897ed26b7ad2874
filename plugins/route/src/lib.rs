//! Sends an event elsewhere, or not at all: by tag, owner, type, pipeline, or any field. What is sent is not touched.
//!
//! Config `rules`: one a line, the first that fits wins: `<what> = <value> -> <where>`. What: `tag`, `owner` (e-mail or id),
//! `type` (`PERSON` or `COMPANY`), `pipeline`, `milestone`, `event`, or `field.<path>`; a value of `*` fits whatever is
//! there. Where: a URL (its host must be in the subscription's `url_hosts`), `pass` or `drop`. Config `otherwise`: the
//! same, for an event that no rule fits; `pass` if absent.

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::Value;
use hookloom_sdk::{Event, Failure, Outgoing, Owner, Plugin, Verdict, at, config, export, text_of};

struct Route;

impl Plugin for Route {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        for line in config::get("rules").unwrap_or_default().lines().map(str::trim).filter(|line| !line.is_empty()) {
            let rule = Rule::read(line)?;
            if rule.fits(event)? {
                return Ok(send(event, rule.to, line));
            }
        }
        let otherwise = config::get("otherwise").unwrap_or_else(|| "pass".to_owned());
        Ok(send(event, &otherwise, "no rule fits"))
    }
}

export!(Route, manifest: "manifest.json");

struct Rule<'a> {
    what: &'a str,
    value: &'a str,
    to: &'a str,
}

impl<'a> Rule<'a> {
    fn read(line: &'a str) -> Result<Self, Failure> {
        let parts = line.split_once("->").and_then(|(left, to)| Some((left.split_once('=')?, to)));
        let ((what, value), to) = parts.ok_or_else(|| {
            Failure::bad_config("no-rule", format!("{line:?} is no rule; write `tag = vip -> https://…`"))
        })?;
        let what = what.trim();
        let value = value.trim();
        let to = to.trim();
        let known =
            ["tag", "owner", "type", "pipeline", "milestone", "event"].contains(&what) || what.starts_with("field.");
        let leads = ["pass", "drop"].contains(&to) || to.starts_with("https://") || to.starts_with("http://");
        match (known, leads) {
            (true, true) => Ok(Rule { what, value, to }),
            (false, _) => Err(Failure::bad_config("no-rule", format!("{what:?} in {line:?} is nothing to route by"))),
            (_, false) => {
                Err(Failure::bad_config("no-rule", format!("{to:?} in {line:?} is no URL, `pass` or `drop`")))
            }
        }
    }

    fn fits(&self, event: &Event) -> Result<bool, Failure> {
        let found = self.found(event)?;
        Ok(found.iter().any(|found| self.value == "*" || found.eq_ignore_ascii_case(self.value)))
    }

    fn found(&self, event: &Event) -> Result<Vec<String>, Failure> {
        fn list(tags: Vec<&str>) -> Vec<String> {
            tags.into_iter().map(str::to_owned).collect()
        }
        fn one(text: Option<std::borrow::Cow<'_, str>>) -> Vec<String> {
            text.map(String::from).into_iter().collect()
        }
        Ok(match (self.what, event.is_deal()) {
            ("event", _) => vec![event.name.clone()],
            ("tag", true) => list(event.deal()?.tags()),
            ("tag", false) => list(event.contact()?.tags()),
            ("owner", true) => names(event.deal()?.owner()),
            ("owner", false) => names(event.contact()?.owner()),
            ("pipeline", true) => one(event.deal()?.pipeline_id()),
            ("milestone", true) => one(event.deal()?.milestone()),
            ("type", false) => one(event.contact()?.field("type").and_then(text_of)),
            (what, _) => match what.strip_prefix("field.") {
                Some(path) => texts(at(&Value::Object(event.data()?), path)),
                None => Vec::new(),
            },
        })
    }
}

/// Returns the names of an owner in rules.
fn names(owner: Option<Owner<'_>>) -> Vec<String> {
    owner.map(|owner| owner.email().into_iter().chain(owner.id()).map(String::from).collect()).unwrap_or_default()
}

/// The texts that were found: one, or those of a list.
fn texts(found: Option<&Value>) -> Vec<String> {
    fn text(value: &Value) -> Option<String> {
        text_of(value).map(String::from)
    }
    match found {
        Some(Value::Array(list)) => list.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn send(event: &Event, to: &str, why: &str) -> Verdict {
    match to {
        "pass" => Verdict::Pass,
        "drop" => Verdict::drop("routed", why),
        url => Verdict::Replace(Outgoing::text("application/json", event.payload.clone()).to(url)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::testing;

    const CONTACT: &str = r#"{"eventName":"Contact is Updated","eventData":{"id":1,"type":"PERSON","tags":["vip","Lead"],"owner":{"id":7,"email":"ada@example.com"},"lead_score":12}}"#;
    const DEAL: &str = r#"{"eventName":"Opportunity is Updated","eventData":{"id":2,"milestone":"Won","pipeline_id":55,"owner":{"email":"bob@example.com"}}}"#;

    #[track_caller]
    fn check(payload: &str, rules: &str, expected: &str) {
        let judged = match testing::run::<Route>(payload, &[("rules", rules)]) {
            Ok(Verdict::Pass) => "pass".to_owned(),
            Ok(Verdict::Drop(reason)) => format!("drop: {}", reason.message),
            Ok(Verdict::Replace(outgoing)) => outgoing.url.unwrap_or_default(),
            Err(Failure::BadConfig(reason)) => reason.message,
            other => panic!("{other:?}"),
        };
        assert_eq!(judged, expected);
    }

    #[test]
    fn the_first_rule_that_fits_wins() {
        check(CONTACT, "", "pass");
        check(
            CONTACT,
            "tag = synced -> drop\ntag = VIP -> https://vip.example/\ntype = PERSON -> drop",
            "https://vip.example/",
        );
        check(CONTACT, "owner = 7 -> drop", "drop: owner = 7 -> drop");
        check(CONTACT, "owner = ada@example.com -> pass\ntag=* -> drop", "pass");
        check(CONTACT, "field.lead_score = 12 -> https://a.example/x=1", "https://a.example/x=1");
        check(CONTACT, "milestone = Won -> drop\npipeline = 55 -> drop", "pass");
        check(DEAL, "type = PERSON -> drop\nmilestone = Won -> https://won.example/", "https://won.example/");
        check(DEAL, "pipeline = 55 -> drop", "drop: pipeline = 55 -> drop");
        check(DEAL, "event = Opportunity is Updated -> drop", "drop: event = Opportunity is Updated -> drop");
    }

    #[test]
    fn a_wrong_rule_is_reported() {
        check(DEAL, "tag vip", "\"tag vip\" is no rule; write `tag = vip -> https://…`");
        check(DEAL, "colour = red -> drop", "\"colour\" in \"colour = red -> drop\" is nothing to route by");
        check(DEAL, "tag = vip -> nowhere", "\"nowhere\" in \"tag = vip -> nowhere\" is no URL, `pass` or `drop`");
    }
}
