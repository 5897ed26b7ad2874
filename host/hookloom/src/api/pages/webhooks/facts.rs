//! Settings and present state of a webhook in plain words. Pure.

use super::time_text::in_units;
use crate::api::pages::DisplayTime;
use crate::deliver::LaneStatus;
use crate::plural::counted;
use crate::store::grouped;
use crate::subscription::{OnPluginFault, Ordering, Settings};

/// Name and value of a setting.
pub(in crate::api::pages) struct SettingFact {
    pub(in crate::api::pages) name: &'static str,
    pub(in crate::api::pages) value: String,
}

/// Returns the settings that have no words of their own on the page: requests, retries, order, and those that are not the default.
pub(super) fn facts(settings: &Settings) -> Vec<SettingFact> {
    let rate = settings.rate_per_s.map(|rate| format!(", at most {} begin in a second", grouped(rate.into())));
    let mut facts = vec![
        (
            "Requests",
            format!(
                "at most {} at once, each with {} for its answer{}",
                settings.concurrency,
                milliseconds(settings.timeout_ms),
                rate.unwrap_or_default()
            ),
        ),
        ("Retries", retries(settings)),
    ];
    if let Some(ordering) = settings.ordering {
        facts.push(("Order", order(ordering)));
    }
    if settings.disable_after_s == 0 {
        facts.push(("Disabled by failures", "never".to_owned()));
    } else {
        facts.push((
            "Disabled by failures",
            format!("after {} of nothing but failures", in_units(settings.disable_after_s)),
        ));
    }
    if !settings.headers.is_empty() {
        facts.push(("Headers", settings.headers.keys().cloned().collect::<Vec<_>>().join(", ")));
    }
    if !settings.plugin.0.is_empty() {
        let fault = match settings.on_plugin_fault {
            OnPluginFault::Hold => "nothing is sent until another version or config comes",
            OnPluginFault::Pass => "the original event is sent",
        };
        facts.push(("When the plugin fails", fault.to_owned()));
    }
    if !settings.url_hosts.is_empty() {
        facts.push(("Other hosts", settings.url_hosts.join(", ")));
    }
    if let Some(proxy) = &settings.transport.proxy {
        facts.push(("Forward proxy", proxy.clone()));
    }
    facts.into_iter().map(|(name, value)| SettingFact { name, value }).collect()
}

fn retries(settings: &Settings) -> String {
    let schedule = &settings.retry.schedule_s;
    let age_max = in_units(settings.retry.age_max_s);
    if schedule.len() <= 1 {
        return format!("none; a delivery older than {age_max} is given up");
    }
    let further: Vec<String> = schedule.iter().skip(1).map(|wait_s| in_units(*wait_s)).collect();
    let attempts = counted(schedule.len() as u64, "attempt", "attempts");
    format!("{attempts}, the further ones after {}; a delivery older than {age_max} is given up", further.join(", "))
}

fn order(ordering: Ordering) -> String {
    match ordering {
        Ordering::Block => {
            "events of one contact or deal one after the other; later ones wait for one that fails".to_owned()
        }
        Ordering::SkipAfter { attempts } => format!(
            "events of one contact or deal one after the other; later ones wait for {} of one that fails",
            counted(attempts.into(), "attempt", "attempts")
        ),
    }
}

fn milliseconds(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{} ms", grouped(ms)) }
}

/// Returns what requests of a webhook do at present.
pub(super) fn present(lane: LaneStatus, now_ms: i64) -> String {
    let under_way = format!("{} under way, at most {} at once", lane.in_flight, lane.window);
    let until = lane.rests_ms.map(|ms| {
        let at = DisplayTime::at_ms(now_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
        at.text.chars().skip("2026-01-01 ".len()).collect::<String>()
    });
    let until = until.map(|at| format!(" at {at}")).unwrap_or_default();
    let waits = match lane.rests_for {
        Some("breaker") => format!("requests go out again{until}, because the receiver failed many times in a row"),
        Some("retry-after") => format!("requests go out again{until}, because the receiver asked for a pause"),
        Some("rate" | "throttled") => {
            "the next request waits for its turn, so that the receiver gets no more than it takes".to_owned()
        }
        Some("host-fault") => format!("this host cannot send or judge; it tries again{until}"),
        Some("plugin") => "requests wait for the plugin, which is being compiled".to_owned(),
        Some("lease") => "this host cannot reach the database that it shares with others".to_owned(),
        Some("takeover") => format!("requests go out{until}: those of the host before may still be under way"),
        _ if lane.breaker == "half-open" => "the receiver failed; one request finds out if it works again".to_owned(),
        _ => String::new(),
    };
    if waits.is_empty() { under_way } else { format!("{under_way}; {waits}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::RetryPolicy;

    /// Checks the value of a fact of settings that differ from the default.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Settings), name: &str, expected: Option<&str>) {
        let mut settings = Settings::new("http://a.example/".into(), Vec::new());
        change(&mut settings);
        let facts = facts(&settings);
        assert_eq!(facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str()), expected);
    }

    #[test]
    fn settings_are_told_in_plain_words() {
        check(|_| (), "Requests", Some("at most 32 at once, each with 15 s for its answer"));
        check(
            |settings| (settings.rate_per_s, settings.timeout_ms) = (Some(1_200), 1_500),
            "Requests",
            Some("at most 32 at once, each with 1,500 ms for its answer, at most 1,200 begin in a second"),
        );
        check(
            |settings| settings.retry = RetryPolicy { schedule_s: vec![0, 5, 300], age_max_s: 86_400 },
            "Retries",
            Some("3 attempts, the further ones after 5 s, 5 min; a delivery older than 1 d is given up"),
        );
        check(
            |settings| settings.retry.schedule_s = vec![0],
            "Retries",
            Some("none; a delivery older than 5 d is given up"),
        );
        check(|_| (), "Order", None);
        check(
            |settings| settings.ordering = Some(Ordering::SkipAfter { attempts: 1 }),
            "Order",
            Some("events of one contact or deal one after the other; later ones wait for 1 attempt of one that fails"),
        );
        check(|settings| settings.disable_after_s = 0, "Disabled by failures", Some("never"));
        check(|_| (), "Disabled by failures", Some("after 5 d of nothing but failures"));
        // Values of headers may be credentials.
        check(|settings| drop(settings.headers.insert("x-key".into(), "abc".into())), "Headers", Some("x-key"));
    }

    #[test]
    fn a_pause_is_told_with_its_end_and_its_reason() {
        #[track_caller]
        fn check(rests_for: Option<&'static str>, rests_ms: Option<u64>, breaker: &'static str, expected: &str) {
            let lane = LaneStatus { in_flight: 1, window: 8, breaker, rests_ms, rests_for };
            assert_eq!(present(lane, 1_709_287_745_000), format!("1 under way, at most 8 at once{expected}"));
        }
        check(None, None, "closed", "");
        check(
            Some("breaker"),
            Some(15_000),
            "open",
            "; requests go out again at 10:09:20 UTC, because the receiver failed many times in a row",
        );
        check(
            Some("retry-after"),
            Some(60_000),
            "closed",
            "; requests go out again at 10:10:05 UTC, because the receiver asked for a pause",
        );
        check(None, None, "half-open", "; the receiver failed; one request finds out if it works again");
        check(Some("start"), Some(3), "closed", "");
    }
}
