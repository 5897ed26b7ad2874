//! Adds facts derived from the data, under one key, without changing the data.
//!
//! For a contact: `full_name`, `email`, `email_domain`, `freemail`, `company`, `country` (ISO 3166, from the address) and, with
//! config `grades` (`A = 80, B = 50, C = 0`), `lead_grade`. For a deal: `owner`, `weighted_value`. For both: config `lookups`, one
//! a line, `milestone: Won = closed` (a field of `eventData`, `tag`, or `country`; then a value and a text), adds
//! `milestone_lookup`; config `constants`, `region = EMEA`. Config `under` names the key; `enriched` if absent.

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Map, Value, from_str, json};
use hookloom_sdk::{
    Contact, Deal, Decimal, Event, Failure, Outgoing, Plugin, Verdict, at, config, export, log, number_of, text_of,
};

struct Enrich;

impl Plugin for Enrich {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let mut facts = if event.is_deal() { deal(&event.deal()?) } else { contact(&event.contact()?)? };
        let data = Value::Object(event.data()?);
        for line in lines("lookups") {
            let (field, value, text) = lookup(&line)?;
            if values(&data, &facts, field).iter().any(|found| found.eq_ignore_ascii_case(value)) {
                facts.insert(format!("{}_lookup", field.replace('.', "_")), text.into());
            }
        }
        for line in lines("constants") {
            let (name, value) = pair(&line, "constants", "region = EMEA")?;
            facts.insert(name.to_owned(), value.into());
        }
        if facts.is_empty() {
            return Ok(Verdict::Pass);
        }
        let mut whole = event.json()?;
        whole[config::get("under").unwrap_or_else(|| "enriched".to_owned())] = Value::Object(facts);
        Ok(Verdict::Replace(Outgoing::json(&whole)))
    }
}

export!(Enrich, manifest: "manifest.json");

fn lines(key: &str) -> Vec<String> {
    let text = config::get(key).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn pair<'a>(line: &'a str, key: &str, example: &str) -> Result<(&'a str, &'a str), Failure> {
    let parts = line.split_once('=').map(|(left, right)| (left.trim(), right.trim()));
    parts
        .filter(|(left, right)| !left.is_empty() && !right.is_empty())
        .ok_or_else(|| Failure::bad_config("no-pair", format!("{line:?} in {key} cannot be read; write `{example}`")))
}

fn lookup(line: &str) -> Result<(&str, &str, &str), Failure> {
    let (left, text) = pair(line, "lookups", "milestone: Won = closed")?;
    let (field, value) = left.split_once(':').ok_or_else(|| {
        Failure::bad_config("no-pair", format!("{line:?} in lookups cannot be read; write `milestone: Won = closed`"))
    })?;
    Ok((field.trim(), value.trim(), text))
}

/// Returns the values for a lookup: tags, a derived fact, or a field.
fn values(data: &Value, facts: &Map<String, Value>, field: &str) -> Vec<String> {
    fn text(value: &Value) -> Option<String> {
        text_of(value).map(String::from)
    }
    match field {
        "tag" => data.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(text).collect(),
        _ => facts.get(field).or_else(|| at(data, field)).and_then(text).into_iter().collect(),
    }
}

/// Providers whose domain is not that of a company.
const FREEMAIL: [&str; 12] = [
    "gmail.com",
    "googlemail.com",
    "yahoo.com",
    "outlook.com",
    "hotmail.com",
    "live.com",
    "icloud.com",
    "me.com",
    "aol.com",
    "gmx.de",
    "gmx.net",
    "proton.me",
];

fn contact(contact: &Contact) -> Result<Map<String, Value>, Failure> {
    let mut facts = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value);
        }
    };
    put("full_name", contact.full_name().map(Value::from));
    let email = contact.email().map(|email| email.to_lowercase());
    let domain = email.as_ref().and_then(|email| email.rsplit_once('@')).map(|(_, domain)| domain.to_owned());
    put("freemail", domain.as_ref().map(|domain| json!(FREEMAIL.contains(&domain.as_str()))));
    put("email_domain", domain.map(Value::from));
    put("email", email.map(Value::from));
    put("company", contact.text("company").map(|company| json!(company)));
    let country =
        contact.address().and_then(|address| text_of(address.get("country")?).map(|code| code.to_uppercase()));
    put("country", country.map(Value::from));
    let score = contact.field("lead_score").and_then(number_of);
    if let Some(score) = score {
        put("lead_grade", grade(score)?.map(Value::from));
    }
    Ok(facts)
}

/// Returns the first grade whose minimum score is reached.
fn grade(score: f64) -> Result<Option<String>, Failure> {
    for item in config::list("grades") {
        let (grade, least) = pair(&item, "grades", "A = 80, B = 50")?;
        let least: f64 = least.parse().map_err(|_| {
            Failure::bad_config("no-pair", format!("{least:?} in grades is no number; write `A = 80, B = 50`"))
        })?;
        if score >= least {
            return Ok(Some(grade.to_owned()));
        }
    }
    Ok(None)
}

fn deal(deal: &Deal) -> Map<String, Value> {
    let mut facts = Map::new();
    if let Some(owner) = deal.owner().and_then(|owner| owner.name().or_else(|| owner.email())) {
        facts.insert("owner".to_owned(), json!(owner));
    }
    if let (Some(value), Some(percent)) = (deal.decimal("expected_value"), deal.decimal("probability")) {
        match weighted(&value, &percent) {
            Some(weighted) => drop(facts.insert("weighted_value".to_owned(), weighted)),
            None => log::warn("the weighted value has more than 38 digits, so it is left out"),
        }
    }
    facts
}

/// Returns a value multiplied by its probability in per cent, to the cent.
fn weighted(value: &Decimal, percent: &Decimal) -> Option<Value> {
    // A hundredth of the product in units is the product in cents.
    let cents = value.times(percent)?.scaled(0)?;
    let whole = cents.unsigned_abs() / 100;
    let rest = cents.unsigned_abs() % 100;
    let sign = if cents < 0 { "-" } else { "" };
    let fraction = if rest.is_multiple_of(10) { format!("{}", rest / 10) } else { format!("{rest:02}") };
    from_str(&format!("{sign}{whole}.{fraction}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::{Body, testing};

    const CONTACT: &str = r#"{"eventName":"Contact is Updated","eventData":{"type":"PERSON","lead_score":55,"tags":["EU"],"properties":[{"name":"first_name","value":"Dana"},{"name":"email","value":" Dana@GMail.com "},{"name":"address","value":"{\"country\":\"de\"}"}]}}"#;
    const DEAL: &str = r#"{"eventName":"Opportunity is Updated","eventData":{"milestone":"Won","pipeline_id":55,"expected_value":"200","probability":75,"owner":{"name":"Maria"}}}"#;

    #[track_caller]
    fn check(payload: &str, config: &[(&str, &str)], expected: &str) {
        let found = match testing::run::<Enrich>(payload, config) {
            Ok(Verdict::Replace(outgoing)) => {
                let Body::Text(text) = outgoing.body else { panic!("text") };
                let whole: Value = from_str(&text).expect("JSON");
                whole["enriched"].to_string()
            }
            Err(Failure::BadConfig(reason)) => reason.message,
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn facts_lookups_and_constants() {
        check(
            CONTACT,
            &[],
            r#"{"full_name":"Dana","freemail":true,"email_domain":"gmail.com","email":"dana@gmail.com","country":"DE"}"#,
        );
        check(
            CONTACT,
            &[
                ("grades", "A = 80, B = 50, C = 0"),
                ("lookups", "country: DE = DACH\ntag: eu = yes"),
                ("constants", "source = crm"),
            ],
            r#"{"full_name":"Dana","freemail":true,"email_domain":"gmail.com","email":"dana@gmail.com","country":"DE","lead_grade":"B","country_lookup":"DACH","tag_lookup":"yes","source":"crm"}"#,
        );
        check(
            DEAL,
            &[("lookups", "milestone: Won = closed\npipeline_id: 55 = Sales")],
            r#"{"owner":"Maria","weighted_value":150.0,"milestone_lookup":"closed","pipeline_id_lookup":"Sales"}"#,
        );
    }

    #[test]
    fn a_weighted_value_is_exact() {
        #[track_caller]
        fn check(value: &str, percent: &str, expected: Option<&str>) {
            fn number(text: &str) -> Decimal {
                Decimal::parse(text).expect("a number")
            }
            assert_eq!(weighted(&number(value), &number(percent)).map(|value| value.to_string()).as_deref(), expected);
        }
        check("200", "75", Some("150.0"));
        check("199.99", "50", Some("100.0"));
        check("0.5", "5", Some("0.03"));
        check("-199.5", "50", Some("-99.75"));
        check("92233720368547758.08", "50", Some("46116860184273879.04"));
        check("1e400", "50", None);
    }

    #[test]
    fn a_wrong_config_is_reported() {
        check(
            DEAL,
            &[("lookups", "milestone Won")],
            "\"milestone Won\" in lookups cannot be read; write `milestone: Won = closed`",
        );
        check(DEAL, &[("constants", "region")], "\"region\" in constants cannot be read; write `region = EMEA`");
        check(CONTACT, &[("grades", "A = high")], "\"high\" in grades is no number; write `A = 80, B = 50`");
    }
}
