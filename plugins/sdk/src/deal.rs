//! A view of a deal (the vendor's event names say "Opportunity").

use crate::Decimal;
use crate::contact::{Owner, tags};
use crate::value::{id_of, number_of, text_of, under};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Deal of an event. Every field can be read by [`Deal::field`], also unknown ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Deal {
    data: Map<String, Value>,
}

impl Deal {
    pub(crate) fn new(data: Map<String, Value>) -> Self {
        Deal { data }
    }

    /// Returns a field of `eventData`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        under(&self.data, name)
    }

    /// Returns a field as text.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.field(name).and_then(text_of)
    }

    /// Returns a field as a number, also if it was sent as text.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.field(name).and_then(number_of)
    }

    /// Returns a field as a number with all its digits, also if it was sent as text: for amounts of money.
    pub fn decimal(&self, name: &str) -> Option<Decimal> {
        self.field(name).and_then(Decimal::of)
    }

    /// Returns a time, in seconds since 1970. Zero means never.
    pub fn time_s(&self, name: &str) -> Option<i64> {
        self.number(name).map(|seconds| seconds as i64).filter(|seconds| *seconds > 0)
    }

    /// Returns the id as text: see [`id_of`].
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.field("id").and_then(id_of)
    }

    /// Returns the name.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.text("name")
    }

    /// Returns the milestone.
    pub fn milestone(&self) -> Option<Cow<'_, str>> {
        self.text("milestone")
    }

    /// Returns the probability in per cent.
    pub fn probability(&self) -> Option<f64> {
        self.number("probability")
    }

    /// Returns the value in the account's currency.
    pub fn expected_value(&self) -> Option<f64> {
        self.number("expected_value")
    }

    /// Returns the id of the track, as text.
    pub fn pipeline_id(&self) -> Option<Cow<'_, str>> {
        self.field("pipeline_id").and_then(id_of)
    }

    /// Returns the ids of the contacts, as text.
    pub fn contact_ids(&self) -> Vec<Cow<'_, str>> {
        let ids = self.field("contact_ids").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(id_of).collect()
    }

    /// Returns custom fields: name and value as text. Names may repeat.
    pub fn custom(&self) -> impl Iterator<Item = (&str, Option<Cow<'_, str>>)> {
        let list = self.field("custom_data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let entries = list.iter().filter_map(Value::as_object);
        entries.filter_map(|entry| Some((under(entry, "name")?.as_str()?, under(entry, "value").and_then(text_of))))
    }

    /// Returns the tags.
    pub fn tags(&self) -> Vec<&str> {
        tags(&self.data)
    }

    /// Returns the owner, if the whole user was sent.
    pub fn owner(&self) -> Option<Owner<'_>> {
        Owner::of(&self.data)
    }

    /// Returns the id of the owner.
    pub fn owner_id(&self) -> Option<Cow<'_, str>> {
        self.owner().and_then(Owner::id).or_else(|| self.field("owner_id").and_then(id_of))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing;

    #[test]
    fn a_full_deal() {
        let event = testing::event(include_str!("../../../tests/fixtures/opportunity_updated_won.json"));
        let deal = event.deal().expect("a deal");
        assert_eq!(deal.id().as_deref(), Some("5721670354470912"));
        assert_eq!(deal.milestone().as_deref(), Some("Won"));
        assert_eq!(deal.probability(), Some(100.0));
        assert_eq!(deal.expected_value(), Some(50_000.0));
        assert_eq!(deal.time_s("won_date"), Some(1_709_851_200));
        assert_eq!(deal.time_s("note_created_time"), None, "zero is never");
        assert_eq!(deal.contact_ids(), ["5701666712059904"]);
        assert_eq!(deal.custom().next(), Some(("Contract length (months)", Some("36".into()))));
        assert_eq!(deal.tags(), ["enterprise"]);
        assert_eq!(deal.owner().and_then(super::super::contact::Owner::name).as_deref(), Some("Maria Lopez"));
    }

    #[test]
    fn numbers_as_texts_and_nothing_at_all() {
        let event = testing::event(
            r#"{"eventName":"Opportunity is Updated","eventData":{"probability":"75","expected_value":"500","owner_id":62,"owner":null}}"#,
        );
        let deal = event.deal().expect("a deal");
        assert_eq!((deal.probability(), deal.expected_value()), (Some(75.0), Some(500.0)));
        assert_eq!(deal.owner_id().as_deref(), Some("62"));
        assert_eq!(deal.milestone(), None);
        assert_eq!(deal.custom().count(), 0);
    }

    #[test]
    fn ids_are_the_same_however_they_are_spelled() {
        let event = testing::event(
            r#"{"eventName":"Opportunity is Updated","eventData":{"id":1,"\u0069d":5.7E1,"pipeline_id":55.0,"contact_ids":[5701666712059904.0,"8"],"owner":{"id":6.2e1}}}"#,
        );
        let deal = event.deal().expect("a deal");
        assert_eq!((event.entity_id.as_deref(), deal.id().as_deref()), (Some("57"), Some("57")));
        assert_eq!(deal.pipeline_id().as_deref(), Some("55"));
        assert_eq!(deal.contact_ids(), ["5701666712059904", "8"]);
        assert_eq!(deal.owner_id().as_deref(), Some("62"));
    }
}
