//! Adds its name to a list in the payload, and two headers.

use hookloom_sdk::{Event, Failure, Outgoing, Plugin, Verdict, export, json};

struct Guest;

impl Plugin for Guest {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let mut value = event.json()?;
        let name = hookloom_sdk::config::get("name").unwrap_or_else(|| "a".into());
        let list = value["steps"].as_array().cloned().unwrap_or_default().len() + 1;
        value["steps"] = json::json!(vec![name.as_str(); list]);
        let outgoing = Outgoing::json(&value).header("x-last", list.to_string());
        Ok(Verdict::Replace(outgoing.header(format!("x-step-{list}"), "1")))
    }
}

export!(Guest);
