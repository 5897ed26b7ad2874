//! Writes times as RFC 3339 and amounts of money in minor units, weighted, and as text.
//!
//! The vendor's times (seconds, in tags milliseconds; 0 means never) become texts in config `zone`, an IANA name or `UTC`; never
//! becomes null. Config `custom_times` lists custom properties that hold seconds. A deal gets `money`: `expected` in the account's
//! currency (config `currency`, such as `USD`), `converted` in the deal's currency, each with minor units, weighted by probability
//! too, and as a text.

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Map, Value, json};
use hookloom_sdk::{Decimal, Event, Failure, Plugin, Verdict, config, export, log, number_of, text_of};
use jiff::Timestamp;
use jiff::tz::TimeZone;

struct Units;

impl Plugin for Units {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let zone = Zone::read()?;
        let currency = config::get("currency");
        if let Some(unfit) = currency.as_ref().filter(|code| !is_currency(code)) {
            return Err(Failure::bad_config("no-currency", format!("{unfit:?} is no ISO 4217 code; write USD or EUR")));
        }
        let own_times = config::list("custom_times");
        let is_deal = event.is_deal();
        event
            .edit(|data| {
                zone.times(data, &own_times);
                if let Some(money) = Some(money(data, currency.as_deref())).filter(|money| is_deal && !money.is_empty())
                {
                    data.insert("money".into(), Value::Object(money));
                }
            })
            .map(Verdict::Replace)
    }
}

export!(Units, manifest: "manifest.json");

/// Fields of a contact or a deal that hold seconds since 1970.
const TIMES: [&str; 11] = [
    "created_time",
    "updated_time",
    "last_contacted",
    "last_emailed",
    "last_campaign_emaild",
    "last_called",
    "viewed_time",
    "close_date",
    "won_date",
    "milestone_changed_time",
    "note_created_time",
];

struct Zone(TimeZone);

impl Zone {
    fn read() -> Result<Self, Failure> {
        let name = config::get("zone").unwrap_or_else(|| "UTC".to_owned());
        TimeZone::get(&name).map(Zone).map_err(|_| {
            Failure::bad_config(
                "no-zone",
                format!("{name:?} is no time zone; write UTC or a name such as Europe/Berlin"),
            )
        })
    }

    fn times(&self, data: &mut Map<String, Value>, own_times: &[String]) {
        for name in TIMES {
            if let Some(value) = data.get_mut(name) {
                self.write(value, 1_000);
            }
        }
        for (list, name, field) in [
            ("tagsWithTime", None, "createdTime"),
            ("properties", Some("name"), "value"),
            ("custom_data", Some("name"), "value"),
        ] {
            for entry in data.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let named = |key| {
                    entry.get(key).and_then(Value::as_str).is_some_and(|name| own_times.iter().any(|time| time == name))
                };
                let unit_ms = if name.is_none() { 1 } else { 1_000 };
                if name.is_none_or(named)
                    && let Some(value) = entry.get_mut(field)
                {
                    self.write(value, unit_ms);
                }
            }
        }
    }

    /// Writes a number of units since 1970 as a text, and 0 as null. Other values stay.
    fn write(&self, value: &mut Value, unit_ms: i64) {
        let Some(number) = number_of(value) else { return };
        let ms = (number as i64).checked_mul(unit_ms).and_then(|ms| Timestamp::from_millisecond(ms).ok());
        match ms {
            _ if number == 0.0 => *value = Value::Null,
            Some(time) if self.0 == TimeZone::UTC => *value = time.to_string().into(),
            Some(time) => *value = time.display_with_offset(self.0.to_offset(time)).to_string().into(),
            None => {}
        }
    }
}

fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn money(data: &Map<String, Value>, account_currency: Option<&str>) -> Map<String, Value> {
    let number = |name: &str| data.get(name).and_then(Decimal::of);
    // `EUR-\u{20ac}`: the code and the sign.
    let currency = data.get("currency_type").and_then(text_of).and_then(|text| text.get(..3).map(str::to_owned));
    let currency = currency.filter(|code| is_currency(code));
    let amounts = [
        ("expected", number("expected_value"), account_currency.map(str::to_owned)),
        ("converted", number("currency_conversion_value").filter(|_| currency.is_some()), currency.clone()),
    ];
    let one = |(name, amount, currency): (&str, Option<Decimal>, Option<String>)| {
        let amount = amount_in(&amount?, currency.as_deref(), number("probability"));
        if amount["minor"].is_null() {
            log::warn(format!("the amount of money.{name} has more than 38 digits, so it has no minor units"));
        }
        Some((name.to_owned(), amount))
    };
    amounts.into_iter().filter_map(one).collect()
}

/// Returns an amount in minor units, weighted, and as a text; exact to 38 digits, and without minor units above that.
fn amount_in(amount: &Decimal, currency: Option<&str>, probability: Option<Decimal>) -> Value {
    let digits = currency.map_or(2, minor_digits);
    let minor = amount.scaled(digits);
    let weighted = probability.and_then(|percent| amount.times(&share_of(percent))?.scaled(digits));
    let text = minor.map(|minor| text(minor, digits, currency));
    json!({"currency": currency, "minor": minor, "weighted_minor": weighted, "text": text})
}

/// Returns a percentage as a share between 0 and 1.
fn share_of(percent: Decimal) -> Decimal {
    percent.clamp(Decimal::from(0), Decimal::from(100)).shifted(-2)
}

/// Returns the number of digits of a currency's minor unit (ISO 4217).
fn minor_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV"
        | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// Formats an amount, such as `50,000.00 USD`.
fn text(minor: i128, digits: u32, currency: Option<&str>) -> String {
    let unit = 10_u128.pow(digits);
    let whole = minor.unsigned_abs() / unit;
    let rest = minor.unsigned_abs() % unit;
    let whole = whole.to_string();
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if minor < 0 { "-" } else { "" };
    let fraction = if digits == 0 { String::new() } else { format!(".{rest:0width$}", width = digits as usize) };
    let currency = currency.map(|code| format!(" {code}")).unwrap_or_default();
    format!("{sign}{grouped}{fraction}{currency}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        #[track_caller]
        fn check(amount: &str, currency: Option<&str>, expected: &str) {
            let found = amount_in(&Decimal::parse(amount).expect("a number"), currency, Some(Decimal::from(50)));
            assert_eq!(
                format!(
                    "{} {} {}",
                    found["minor"],
                    found["weighted_minor"],
                    found["text"].as_str().unwrap_or_default()
                ),
                expected
            );
        }
        check("50000.0", Some("USD"), "5000000 2500000 50,000.00 USD");
        check("0.30000000000000004", None, "30 15 0.30");
        check("1234567", Some("JPY"), "1234567 617284 1,234,567 JPY");
        check("1.5", Some("KWD"), "1500 750 1.500 KWD");
        check("-999.99", Some("EUR"), "-99999 -50000 -999.99 EUR");
        // Beyond 64 bits.
        check(
            "92233720368547758.08",
            Some("USD"),
            "9223372036854775808 4611686018427387904 92,233,720,368,547,758.08 USD",
        );
        check(
            "1.2345678901234567e30",
            Some("JPY"),
            "1234567890123456700000000000000 617283945061728350000000000000 1,234,567,890,123,456,700,000,000,000,000 JPY",
        );
        check("-90071992547409930.01", None, "-9007199254740993001 -4503599627370496501 -90,071,992,547,409,930.01");
        check("1e37", Some("USD"), "null null ");
        check("1e400", Some("USD"), "null null ");
    }

    #[test]
    fn a_probability_is_a_share() {
        #[track_caller]
        fn check(percent: &str, expected: &str) {
            assert_eq!(
                share_of(Decimal::parse(percent).expect("a number")),
                Decimal::parse(expected).expect("a number")
            );
        }
        check("60.5", "0.605");
        check("-1", "0");
        check("1e400", "1");
        check("100.000", "1");
    }

    #[test]
    fn times() {
        #[track_caller]
        fn check(zone: &str, mut value: Value, unit_ms: i64, expected: Value) {
            let zone = Zone(TimeZone::get(zone).expect("a zone"));
            zone.write(&mut value, unit_ms);
            assert_eq!(value, expected);
        }
        check("UTC", json!(1_709_254_800), 1_000, json!("2024-03-01T01:00:00Z"));
        check("Europe/Berlin", json!(1_709_254_800), 1_000, json!("2024-03-01T02:00:00+01:00"));
        check("Europe/Berlin", json!("1719792000"), 1_000, json!("2024-07-01T02:00:00+02:00"));
        check("UTC", json!(1_709_254_800_118_i64), 1, json!("2024-03-01T01:00:00.118Z"));
        check("UTC", json!(0), 1_000, json!(null));
        check("UTC", json!("06/15/2024"), 1_000, json!("06/15/2024"));
        check("UTC", json!(1e18), 1_000, json!(1e18));
    }
}
