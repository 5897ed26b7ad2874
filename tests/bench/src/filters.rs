//! Row `filters`: an event that filters refuse, beside one that no subscription is about.
//!
//! The tenants are on one host and take turns, so that other load, and the growth of the store, affect all of them.

use crate::host::{Host, batch, event};
use crate::measure::{COUNT, rate};
use crate::processes::cpu_s;
use crate::{Args, Failure, Goal, Row, median};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

/// Numbers of filters of the tenants.
const FILTERS: [usize; 4] = [0, 1, 10, 100];

/// A filter costs far less than the rest of a request, so that it takes many rounds to show.
const ROUNDS_MIN: usize = 15;

/// Returns a filter that refuses the events of the bench. Ten in a row differ, and each kind looks at a different part of the event.
fn filter(number: usize) -> Value {
    match number % 10 {
        0 => json!({"fields": {"last_name": format!("Mulder {number}")}}),
        1 => json!({"fields": {"id": {"$gte": 1_000_000_000 + number}}}),
        2 => json!({"fields": {"bench_number": {"$startsWith": format!("n{number}")}}}),
        3 => json!({"fields": {"tags": {"$contains": format!("tag {number}")}}}),
        4 => json!({"eventData": {"properties": {"name": "first_name", "value": format!("Fox {number}")}}}),
        5 => json!({"fields": {"first_name": {"$in": [format!("Fox {number}"), "Walter", "Monica", "John"]}}}),
        6 => json!({"$not": {"fields": {"type": "PERSON"}}, "fields": {"note": {"$neq": number.to_string()}}}),
        7 => json!({"fields": {"probability": {"$gt": 10 + number, "$lt": 90}}}),
        8 => {
            json!({"$or": [{"fields": {"type": "COMPANY"}}, {"fields": {"last_name": {"$endsWith": format!("{number}")}}}]})
        }
        _ => json!({"fields": {"first_name": {"$regex": format!("^(Fox|Walter) {number}$")}}}),
    }
}

/// CPU time of an accepted event in µs, for each tenant and round.
type Costs = [Vec<f64>; FILTERS.len()];

/// Measures the row. Its figure is the tenant with 100 filters, one event a request.
pub(crate) async fn row(name: &'static str, args: &Args) -> Result<Row, Failure> {
    let host = Host::start(args).await?;
    for count in FILTERS {
        host.http
            .post(format!("{}/v1/tenants", host.url))
            .bearer_auth(crate::host::KEY)
            .body(json!({"id": tenant(count)}).to_string())
            .send()
            .await?
            .error_for_status()?;
        for number in 0..count {
            // The receiver is never called.
            let settings =
                json!({"notify_url": "http://127.0.0.1:65000/", "modules": ["Contact"], "filter": filter(number)});
            host.ask_of(&tenant(count), Method::POST, "/subscriptions", settings.to_string()).await?;
        }
    }
    let mut singles = Costs::default();
    let mut batches = Costs::default();
    for round in 0..=args.rounds.max(ROUNDS_MIN) {
        for at in 0..FILTERS.len() {
            // The order changes, so that no tenant always follows the same other one.
            let at = (at + round) % FILTERS.len();
            let single = accepted(&host, FILTERS[at], COUNT, 1).await?;
            let batch = accepted(&host, FILTERS[at], COUNT, 100).await?;
            // The first round creates connections, caches and pages.
            if round > 0 {
                singles[at].push(single);
                batches[at].push(batch);
            }
        }
    }
    let deliveries = host.ask_of(&tenant(100), Method::GET, "/deliveries?limit=1", "").await?;
    if deliveries["deliveries"] != json!([]) {
        return Err("a filter of the bench did not refuse its event".into());
    }
    let [none, .., hundred] = singles.clone();
    let also = format!("one event a request: {}; NDJSON, 100 a request: {}", shown(&singles), shown(&batches));
    let what =
        "CPU of the host for an event that 100 filters refuse; floor: one that no subscription is about".to_owned();
    Ok(Row { name, what, unit: "µs", floors: none, figures: hundred, goal: Goal::AtMost(1.3), also })
}

fn tenant(filters: usize) -> String {
    format!("filters-{filters}")
}

/// Returns medians, and the ratios of each to the tenant without a filter, as medians of the rounds.
fn shown(costs: &Costs) -> String {
    let part = |(count, all): (usize, &Vec<f64>)| {
        let ratios: Vec<f64> = all.iter().zip(&costs[0]).map(|(one, none)| one / none).collect();
        format!("{count} filters {:.1} µs ({:.2})", median(all), median(&ratios))
    };
    FILTERS.into_iter().zip(costs).map(part).collect::<Vec<_>>().join(", ")
}

/// Sends events to a tenant. Returns the CPU time of the host for each, in µs.
async fn accepted(host: &Host, filters: usize, count: u64, per_request: u64) -> Result<f64, Failure> {
    let built = host.request_of(&tenant(filters), Method::POST, "/events", "").build()?;
    let http = host.http.clone();
    let key = built.headers()["authorization"].clone();
    let url = built.url().clone();
    let before = cpu_s(host.process.id());
    rate(count / per_request, move |number| {
        let body: Bytes =
            if per_request == 1 { event(number).into() } else { batch(number * per_request, per_request) };
        http.post(url.clone()).header("authorization", key.clone()).body(body)
    })
    .await?;
    Ok((cpu_s(host.process.id()) - before) * 1e6 / count as f64)
}
