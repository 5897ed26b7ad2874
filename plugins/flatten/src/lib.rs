//! Converts a contact or a deal into one flat object.
//!
//! Vendor properties become `snake_case` keys. The work e-mail and phone come first, and all of them follow as lists. The address
//! is parsed, custom properties are under `custom`, ids are texts, and times are RFC 3339. No config. Absent values are left out,
//! except `updated_at`, which is null until the first update.

#[cfg(test)]
mod manifest;

use hookloom_sdk::json::{Map, Value, json};
use hookloom_sdk::{Contact, Deal, Event, Failure, Owner, Plugin, Verdict, export, id_of, number_of, time};
use serde::ser::{Serialize, SerializeMap, Serializer};

struct Flatten;

impl Plugin for Flatten {
    fn transform(event: &Event) -> Result<Verdict, Failure> {
        let entity = if event.is_deal() { Entity::Deal(event.deal()?) } else { Entity::Contact(event.contact()?) };
        Ok(Verdict::json(&Flat { event: event_name(&event.name), entity }))
    }
}

export!(Flatten, manifest: "manifest.json");

/// Returns `contact.created` for `Contact is Created`; opportunities are called deals.
fn event_name(name: &str) -> String {
    name.to_lowercase().replace("opportunity", "deal").replace(" is ", ".").replace(' ', "_")
}

enum Entity {
    Contact(Contact),
    Deal(Deal),
}

/// Flat object, which is serialized while it is read, without a map of it.
struct Flat {
    event: String,
    entity: Entity,
}

impl Serialize for Flat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = Keys(serializer.serialize_map(None)?);
        keys.put("event", Some(&self.event))?;
        match &self.entity {
            Entity::Contact(contact) => keys.put_contact(contact)?,
            Entity::Deal(deal) => keys.put_deal(deal)?,
        }
        keys.0.end()
    }
}

/// Keys of the object, one after the other.
struct Keys<M>(M);

impl<M: SerializeMap> Keys<M> {
    /// Adds a key, unless the value is absent.
    fn put(&mut self, key: &str, value: Option<impl Serialize>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.0.serialize_entry(key, &value))
    }

    /// Adds a list, unless it is empty.
    fn put_list(&mut self, key: &str, list: &[impl Serialize]) -> Result<(), M::Error> {
        self.put(key, Some(list).filter(|list| !list.is_empty()))
    }

    fn put_contact(&mut self, contact: &Contact) -> Result<(), M::Error> {
        let text = |name: &str| contact.text(name);
        let field = |name: &str| contact.field(name);
        let is_company = contact.is_company();
        self.put("id", contact.id())?;
        self.put("type", Some(if is_company { "company" } else { "person" }))?;
        self.put("first_name", text("first_name"))?;
        self.put("last_name", text("last_name"))?;
        self.put("name", text("name").filter(|_| is_company))?;
        self.put("full_name", contact.full_name().filter(|_| !is_company))?;
        self.put("title", text("title"))?;
        self.put("company", text("company"))?;
        self.put("company_id", field("contact_company_id").and_then(id_of))?;
        self.put("url", text("url"))?;
        self.put("email", contact.email())?;
        self.put_list("emails", &labelled(contact, "email"))?;
        self.put("phone", contact.phone())?;
        self.put_list("phones", &labelled(contact, "phone"))?;
        self.put_list("websites", &labelled(contact, "website"))?;
        let unparsed = || text("address").map(|line| Map::from_iter([("address".to_owned(), line.into())]));
        self.put("address", contact.address().or_else(unparsed))?;
        let custom = contact.custom().filter_map(|property| Some((property.name(), property.text()?.into_owned())));
        self.put("custom", collected(custom))?;
        self.put_list("tags", &contact.tags())?;
        self.put("lead_score", field("lead_score"))?;
        self.put("star_value", field("star_value"))?;
        self.put("owner_id", contact.owner().and_then(Owner::id))?;
        self.put("owner_email", contact.owner().and_then(Owner::email))?;
        self.put("created_at", field("created_time").and_then(moment))?;
        self.put("updated_at", Some(field("updated_time").and_then(moment)))
    }

    fn put_deal(&mut self, deal: &Deal) -> Result<(), M::Error> {
        let number = |name: &str| deal.field(name).filter(|value| number_of(value).is_some());
        let at = |name: &str| deal.field(name).and_then(moment);
        self.put("id", deal.id())?;
        self.put("name", deal.name())?;
        self.put("description", deal.text("description"))?;
        self.put("milestone", deal.milestone())?;
        self.put("pipeline_id", deal.pipeline_id())?;
        self.put("probability", number("probability"))?;
        self.put("expected_value", number("expected_value"))?;
        self.put("currency_type", deal.text("currency_type"))?;
        self.put_list("contact_ids", &deal.contact_ids())?;
        let custom = deal.custom().filter_map(|(name, value)| Some((name, value?.into_owned())));
        self.put("custom", collected(custom))?;
        self.put_list("tags", &deal.tags())?;
        self.put("archived", deal.field("archived"))?;
        self.put("owner_id", deal.owner_id())?;
        self.put("owner_email", deal.owner().and_then(Owner::email))?;
        self.put("close_at", at("close_date"))?;
        self.put("won_at", at("won_date"))?;
        self.put("milestone_changed_at", at("milestone_changed_time"))?;
        self.put("created_at", at("created_time"))?;
        self.put("updated_at", Some(at("updated_time")))
    }
}

/// Returns all values of a repeatable property with their subtypes.
fn labelled(contact: &Contact, name: &str) -> Vec<Value> {
    contact
        .system(name)
        .filter_map(|property| Some(json!({"value": property.text()?, "label": property.subtype()})))
        .collect()
}

/// Returns names and texts as one object. The values of a repeated name become a list.
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

/// Returns seconds since 1970 as RFC 3339. Zero means never.
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
