//! Turns a contact or a deal into one flat object, as receivers want it.
//!
//! Vendor properties become `snake_case` keys, the work e-mail and phone come first and all of them follow as lists, the
//! address is parsed, the account's own properties stand under `custom`, ids are texts, and times are RFC 3339. No
//! config. What is not there is left out, but for `updated_at`, which is null until the first update.

use hookloom_sdk::json::{Map, Value, json};
use hookloom_sdk::{Contact, Deal, Event, Failure, Plugin, Property, Verdict, export, number_of, text_of, time};

struct Flatten;

impl Plugin for Flatten {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let mut flat = Flat::default();
        flat.put("event", Some(event_name(&event.name)));
        match event.is_deal() {
            true => deal(&mut flat, &event.deal()?),
            false => contact(&mut flat, &event.contact()?),
        }
        Ok(Verdict::json(&Value::Object(flat.0)))
    }
}

export!(Flatten);

/// `Contact is Created` → `contact.created`; deals are called deals.
fn event_name(name: &str) -> String {
    name.to_lowercase().replace("opportunity", "deal").replace(" is ", ".").replace(' ', "_")
}

#[derive(Default)]
struct Flat(Map<String, Value>);

impl Flat {
    fn put(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
    }

    /// A list, left out when it is empty.
    fn put_list(&mut self, key: &str, list: Vec<Value>) {
        self.put(key, Some(list).filter(|list| !list.is_empty()));
    }
}

fn contact(flat: &mut Flat, contact: &Contact) {
    let text = |name: &str| contact.text(name).map(String::from);
    flat.put("id", contact.id().map(String::from));
    flat.put("type", Some(if contact.is_company() { "company" } else { "person" }));
    flat.put("first_name", text("first_name"));
    flat.put("last_name", text("last_name"));
    flat.put("name", text("name").filter(|_| contact.is_company()));
    flat.put("full_name", contact.full_name().filter(|_| !contact.is_company()));
    flat.put("title", text("title"));
    flat.put("company", text("company"));
    flat.put("company_id", contact.field("contact_company_id").and_then(text_of).map(String::from));
    flat.put("url", text("url"));
    flat.put("email", contact.email().map(String::from));
    flat.put_list("emails", labelled(contact, "email"));
    flat.put("phone", contact.phone().map(String::from));
    flat.put_list("phones", labelled(contact, "phone"));
    flat.put_list("websites", labelled(contact, "website"));
    let unparsed = text("address").map(|line| Map::from_iter([("address".to_owned(), line.into())]));
    flat.put("address", contact.address().or(unparsed));
    let custom = contact.custom().filter_map(|property| Some((property.name(), property.text()?.into_owned())));
    flat.put("custom", collected(custom));
    flat.put_list("tags", contact.tags().into_iter().map(Value::from).collect());
    flat.put("lead_score", contact.field("lead_score").cloned());
    flat.put("star_value", contact.field("star_value").cloned());
    let owner = contact.owner();
    flat.put("owner_id", owner.and_then(hookloom_sdk::Owner::id).map(String::from));
    flat.put("owner_email", owner.and_then(hookloom_sdk::Owner::email).map(String::from));
    flat.put("created_at", contact.field("created_time").and_then(moment));
    flat.put("updated_at", Some(contact.field("updated_time").and_then(moment)));
}

fn deal(flat: &mut Flat, deal: &Deal) {
    let text = |name: &str| deal.text(name).map(String::from);
    flat.put("id", deal.id().map(String::from));
    flat.put("name", deal.name().map(String::from));
    flat.put("description", text("description"));
    flat.put("milestone", deal.milestone().map(String::from));
    flat.put("pipeline_id", deal.pipeline_id().map(String::from));
    flat.put("probability", deal.field("probability").filter(|value| number_of(value).is_some()).cloned());
    flat.put("expected_value", deal.field("expected_value").filter(|value| number_of(value).is_some()).cloned());
    flat.put("currency_type", text("currency_type"));
    flat.put_list("contact_ids", deal.contact_ids().into_iter().map(|id| Value::from(id.into_owned())).collect());
    let custom = deal.custom().filter_map(|(name, value)| Some((name, value?.into_owned())));
    flat.put("custom", collected(custom));
    flat.put_list("tags", deal.tags().into_iter().map(Value::from).collect());
    flat.put("archived", deal.field("archived").cloned());
    flat.put("owner_id", deal.owner_id().map(String::from));
    flat.put("owner_email", deal.owner().and_then(hookloom_sdk::Owner::email).map(String::from));
    for (key, field) in [
        ("close_at", "close_date"),
        ("won_at", "won_date"),
        ("milestone_changed_at", "milestone_changed_time"),
        ("created_at", "created_time"),
    ] {
        flat.put(key, deal.field(field).and_then(moment));
    }
    flat.put("updated_at", Some(deal.field("updated_time").and_then(moment)));
}

/// Every value of a repeatable property with its subtype.
fn labelled(contact: &Contact, name: &str) -> Vec<Value> {
    let entry = |property: Property<'_>| Some(json!({"value": property.text()?, "label": property.subtype()}));
    contact.system(name).filter_map(entry).collect()
}

/// Names and texts as one object. Where a name repeats, its values become a list.
fn collected<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    for (name, text) in entries {
        match object.get_mut(name) {
            None => drop(object.insert(name.to_owned(), text.into())),
            Some(Value::Array(list)) => list.push(text.into()),
            Some(one) => *one = Value::from(vec![one.take(), text.into()]),
        }
    }
    Some(object).filter(|object| !object.is_empty())
}

/// Seconds since 1970 as RFC 3339. Zero means never.
fn moment(value: &Value) -> Option<String> {
    number_of(value).map(|seconds| seconds as i64).filter(|seconds| *seconds > 0).and_then(time::rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_sdk::{Body, json, testing};

    fn flat(payload: &str) -> Value {
        match testing::run::<Flatten>(payload, &[]) {
            Ok(Verdict::Replace(outgoing)) => match outgoing.body {
                Body::Text(text) => json::from_str(&text).expect("JSON"),
                Body::Binary(_) => panic!("a text is sent"),
            },
            other => panic!("nothing is sent: {other:?}"),
        }
    }

    #[test]
    fn a_contact_is_the_documented_object_in_its_order() {
        let expected: Value =
            json::from_str(include_str!("../../../tests/fixtures/expected/flatten_contact.json")).expect("JSON");
        let flat = flat(include_str!("../../../tests/fixtures/contact_created_person_full.json"));
        assert_eq!(flat, expected["expected"]);
        assert_eq!(flat.to_string(), expected["expected"].to_string(), "the order of keys");
    }

    #[test]
    fn a_company_has_one_name() {
        let flat = flat(include_str!("../../../tests/fixtures/contact_created_company.json"));
        assert_eq!((&flat["type"], &flat["name"]), (&json!("company"), &json!("Cobalt Freight Ltd")));
        assert_eq!(flat.get("full_name"), None);
    }

    #[test]
    fn a_deal() {
        let flat = flat(include_str!("../../../tests/fixtures/opportunity_updated_won.json"));
        assert_eq!(flat["event"], "deal.updated");
        assert_eq!(flat["won_at"], "2024-03-07T22:40:00Z");
        assert_eq!(flat["custom"]["Contract length (months)"], "36");
        assert_eq!(flat["expected_value"].to_string(), "50000.0", "the digits stay");
    }

    #[test]
    fn odd_contacts() {
        let flat = flat(include_str!("../../../tests/fixtures/contact_edge_cases.json"));
        assert_eq!(flat["address"], json!({"address": "not json"}));
        assert_eq!(flat["custom"]["Date of Joining"], "1279132200");
        assert_eq!(flat["custom"].get("Empty"), None);
        assert_eq!(flat["websites"], json!([{"value": "https://example.org", "label": "URL"}]));
        assert_eq!(flat.get("email"), None);
    }
}
