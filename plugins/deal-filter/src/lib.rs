//! Passes only deals that are likely, large or advanced enough, without a change.
//!
//! Config, all optional; a deal must meet every threshold that is set: `min_probability` (per cent), `min_value` (in the account's
//! currency), `milestones` and `pipelines` (comma lists). Contacts pass: to leave them out, untick their box in the subscription.

#[cfg(test)]
mod manifest;

use hookloom_sdk::{Deal, Event, Failure, Plugin, Reason, Verdict, config, export};

struct DealFilter;

impl Plugin for DealFilter {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let thresholds = Thresholds::read()?;
        if !event.is_deal() {
            return Ok(Verdict::Pass);
        }
        let below = thresholds.first_missed(&event.deal()?);
        Ok(below.map_or(Verdict::Pass, Verdict::Drop))
    }
}

export!(DealFilter, manifest: "manifest.json");

struct Thresholds {
    probability: Option<f64>,
    value: Option<f64>,
    milestones: Vec<String>,
    pipelines: Vec<String>,
}

impl Thresholds {
    fn read() -> Result<Self, Failure> {
        Ok(Thresholds {
            probability: config::parse("min_probability")?,
            value: config::parse("min_value")?,
            milestones: config::list("milestones"),
            pipelines: config::list("pipelines"),
        })
    }

    fn first_missed(&self, deal: &Deal) -> Option<Reason> {
        at_least("probability", deal.probability(), self.probability)
            .or_else(|| at_least("value", deal.expected_value(), self.value))
            .or_else(|| one_of("milestone", deal.milestone().as_deref(), &self.milestones))
            .or_else(|| one_of("pipeline", deal.pipeline_id().as_deref(), &self.pipelines))
    }
}

fn at_least(what: &str, found: Option<f64>, least: Option<f64>) -> Option<Reason> {
    let least = least?;
    match found {
        Some(found) if found >= least => None,
        Some(found) => Some(Reason::new(format!("low-{what}"), format!("{what} {found} < {least}"))),
        None => Some(Reason::new(format!("no-{what}"), format!("the deal has no {what}, and {least} is wanted"))),
    }
}

fn one_of(what: &str, found: Option<&str>, wanted: &[String]) -> Option<Reason> {
    if wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|one| one == found)) {
        return None;
    }
    let found = found.unwrap_or("none");
    Some(Reason::new(format!("other-{what}"), format!("{what} {found} is not one of {}", wanted.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::testing;

    const FULL: &str = include_str!("../../../tests/fixtures/opportunity_created_full.json");
    const MOVED: &str = include_str!("../../../tests/fixtures/opportunity_updated_milestone.json");
    const WON: &str = include_str!("../../../tests/fixtures/opportunity_updated_won.json");

    #[track_caller]
    fn check(payload: &str, config: &[(&str, &str)], expected: Result<Option<&str>, &str>) {
        let judged = match testing::run::<DealFilter>(payload, config) {
            Ok(Verdict::Pass) => Ok(None),
            Ok(Verdict::Drop(reason)) => Ok(Some(reason.message)),
            Err(Failure::BadConfig(reason)) => Err(reason.message),
            other => panic!("neither passed nor dropped: {other:?}"),
        };
        assert_eq!(judged, expected.map(|text| text.map(str::to_owned)).map_err(str::to_owned));
    }

    #[test]
    fn thresholds() {
        check(FULL, &[("min_probability", "75")], Ok(Some("probability 60 < 75")));
        check(MOVED, &[("min_probability", "75")], Ok(None));
        check(FULL, &[], Ok(None));
        check(FULL, &[("min_value", "50000.01")], Ok(Some("value 50000 < 50000.01")));
        check(WON, &[("min_value", "50000")], Ok(None));
        check(WON, &[("milestones", "Lost, Won")], Ok(None));
        check(WON, &[("milestones", "Lost")], Ok(Some("milestone Won is not one of Lost")));
        check(WON, &[("pipelines", "5730082031141376")], Ok(None));
        check(WON, &[("pipelines", "1")], Ok(Some("pipeline 5730082031141376 is not one of 1")));
        check(WON, &[("min_probability", "high")], Err("config \"min_probability\" is \"high\", which does not fit"));
    }

    #[test]
    fn odd_deals_and_contacts() {
        fn deal(data: &str) -> String {
            format!(r#"{{"eventName":"Opportunity is Updated","eventData":{data}}}"#)
        }
        check(&deal(r#"{"probability":"75"}"#), &[("min_probability", "75")], Ok(None));
        check(&deal("{}"), &[("min_probability", "0")], Ok(Some("the deal has no probability, and 0 is wanted")));
        check(&deal("{}"), &[("milestones", "Won")], Ok(Some("milestone none is not one of Won")));
        check(r#"{"eventName":"Contact is Created","eventData":{}}"#, &[("min_value", "1")], Ok(None));
    }
}
