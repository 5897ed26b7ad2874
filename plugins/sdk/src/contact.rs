//! A view of a contact: a person or a company.

use crate::value::{id_of, number_of, text_of, under};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A person or a company. Every field of it stays reachable by [`Contact::field`], known here or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    data: Map<String, Value>,
}

/// One entry of `properties`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Property<'a> {
    data: &'a Map<String, Value>,
}

impl<'a> Property<'a> {
    /// Its name; empty if it has none.
    pub fn name(self) -> &'a str {
        under(self.data, "name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns true if the account's owner added it (`CUSTOM`). Any other type, and no type at all, is the vendor's.
    pub fn is_custom(self) -> bool {
        under(self.data, "type").and_then(Value::as_str) == Some("CUSTOM")
    }

    /// Its subtype, such as `work`. None if it is absent, null or empty: the vendor sends all three.
    pub fn subtype(self) -> Option<&'a str> {
        under(self.data, "subtype").and_then(Value::as_str).filter(|subtype| !subtype.is_empty())
    }

    /// Its value as text, trimmed, also if it was sent as a number. None if it is null or blank.
    pub fn text(self) -> Option<Cow<'a, str>> {
        under(self.data, "value").and_then(text_of)
    }

    /// Its value as a number, also if it was sent as text.
    pub fn number(self) -> Option<f64> {
        under(self.data, "value").and_then(number_of)
    }

    /// Its value as JSON, for addresses and references, which are JSON inside a text. None if it is not JSON.
    pub fn json(self) -> Option<Value> {
        serde_json::from_str(under(self.data, "value")?.as_str()?).ok()
    }
}

/// The user that owns a contact or a deal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Owner<'a> {
    data: &'a Map<String, Value>,
}

impl<'a> Owner<'a> {
    pub(crate) fn of(data: &'a Map<String, Value>) -> Option<Self> {
        under(data, "owner")?.as_object().map(|data| Owner { data })
    }

    /// The user's id as text: see [`id_of`].
    pub fn id(self) -> Option<Cow<'a, str>> {
        under(self.data, "id").and_then(id_of)
    }

    /// The user's name.
    pub fn name(self) -> Option<Cow<'a, str>> {
        under(self.data, "name").and_then(text_of)
    }

    /// The user's e-mail address.
    pub fn email(self) -> Option<Cow<'a, str>> {
        under(self.data, "email").and_then(text_of)
    }
}

impl Contact {
    pub(crate) fn new(data: Map<String, Value>) -> Self {
        Contact { data }
    }

    /// Any field of `eventData`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        under(&self.data, name)
    }

    /// Its id as text: see [`id_of`].
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.field("id").and_then(id_of)
    }

    /// Returns true for a company; otherwise the contact is a person.
    pub fn is_company(&self) -> bool {
        self.field("type").and_then(Value::as_str) == Some("COMPANY")
    }

    /// Its properties, in their order.
    pub fn properties(&self) -> impl Iterator<Item = Property<'_>> {
        let list = self.field("properties").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_object).map(|data| Property { data })
    }

    /// The vendor's properties of one name, in their order: e-mails, phones, addresses and websites may repeat.
    pub fn system<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Property<'a>> {
        self.properties().filter(move |property| !property.is_custom() && property.name() == name)
    }

    /// The first text under a vendor's property: that of the preferred subtype if there is one, else the first that is
    /// not blank.
    pub fn preferred(&self, name: &str, subtype: &str) -> Option<Cow<'_, str>> {
        let wanted = self.properties().filter(|property| !property.is_custom() && property.name() == name);
        let mut first = None;
        let mut best = None;
        for property in wanted {
            let text = property.text();
            if property.subtype() == Some(subtype) && best.is_none() {
                best = text.clone();
            }
            first = first.or(text);
        }
        best.or(first)
    }

    /// The text of a vendor's property that occurs once, such as `first_name`.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.preferred(name, "")
    }

    /// The e-mail address: the first with subtype `work`, else the first.
    pub fn email(&self) -> Option<Cow<'_, str>> {
        self.preferred("email", "work")
    }

    /// The phone number: the first with subtype `work`, else the first.
    pub fn phone(&self) -> Option<Cow<'_, str>> {
        self.preferred("phone", "work")
    }

    /// A person's first and last name, or a company's name.
    pub fn full_name(&self) -> Option<String> {
        let parts: Vec<_> = ["first_name", "last_name"].iter().filter_map(|name| self.text(name)).collect();
        if parts.is_empty() { self.text("name").map(Cow::into_owned) } else { Some(parts.join(" ")) }
    }

    /// The first address that is what the vendor documents: a JSON object inside a text.
    pub fn address(&self) -> Option<Map<String, Value>> {
        let objects =
            self.properties().filter(|one| !one.is_custom() && one.name() == "address").filter_map(Property::json);
        objects.filter_map(|value| if let Value::Object(address) = value { Some(address) } else { None }).next()
    }

    /// The account's own properties.
    pub fn custom(&self) -> impl Iterator<Item = Property<'_>> {
        self.properties().filter(|property| property.is_custom())
    }

    /// Its tags.
    pub fn tags(&self) -> Vec<&str> {
        tags(&self.data)
    }

    /// Returns the owner.
    pub fn owner(&self) -> Option<Owner<'_>> {
        Owner::of(&self.data)
    }
}

pub(crate) fn tags(data: &Map<String, Value>) -> Vec<&str> {
    under(data, "tags")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::testing;

    #[test]
    fn odd_properties_are_coped_with() {
        let event = testing::event(include_str!("../../../tests/fixtures/contact_edge_cases.json"));
        let contact = event.contact().expect("a contact");
        assert_eq!(contact.full_name().as_deref(), Some("Søren \"Zoë\" O'Néill-陳"));
        assert_eq!(contact.email(), None, "a null and an empty e-mail");
        assert_eq!(contact.address(), None, "an address that is no JSON");
        assert_eq!(contact.phone().as_deref(), Some("００４４ 20 7946 0018"));
        assert_eq!(contact.text("website").as_deref(), Some("https://example.org"), "a property without a type");
        let custom = |name: &str| contact.custom().find(|one| one.name() == name).expect("a custom property");
        assert_eq!(custom("Date of Joining").text().as_deref(), Some("1279132200"));
        assert_eq!(custom("Date of Joining").number(), Some(1_279_132_200.0));
        assert_eq!(custom("Empty").text(), None);
        assert_eq!(custom("first_name").text().as_deref(), Some("duplicate custom"), "no clash with the vendor's");
        assert_eq!(contact.owner(), None);
    }

    #[test]
    fn repeated_properties_are_chosen_by_subtype() {
        let event = testing::event(include_str!("../../../tests/fixtures/contact_created_person_full.json"));
        let contact = event.contact().expect("a contact");
        assert_eq!(contact.email().as_deref(), Some("dana.whitfield@cobalt-freight.example"));
        assert_eq!(contact.preferred("email", "personal").as_deref(), Some("dana.w@personal.example"));
        assert_eq!(contact.preferred("email", "none such").as_deref(), Some("dana.whitfield@cobalt-freight.example"));
        assert_eq!(contact.system("phone").count(), 2);
        let address = contact.address().expect("JSON in a text");
        assert_eq!(address["countryname"], "United States");
        assert_eq!(contact.owner().and_then(super::Owner::id).as_deref(), Some("6263975862862848"));
        assert!(!contact.is_company());
    }
}
