//! Event of a call, and its typed views.

use crate::{Contact, Deal, Failure, Outgoing};
use serde_json::{Map, Value};

/// Event, as one subscription gets it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Event {
    /// Id of the event.
    pub id: String,
    /// Tenant of the event.
    pub tenant: String,
    /// Subscription of this call.
    pub subscription: String,
    /// Event name, such as `Contact is Created`.
    pub name: String,
    /// `Contact` or `Deal`, if the host knows it.
    pub module: Option<String>,
    /// `eventData.id` as text, if there is one; a number in plain digits.
    pub entity_id: Option<String>,
    /// Time of acceptance, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// Exact body: JSON with `eventName` and `eventData`.
    pub payload: String,
    /// Attributes that later hosts may add. Ignore names you do not know.
    pub attributes: Vec<(String, String)>,
}

impl Event {
    /// Returns the whole payload as JSON: every field, in order, with the digits of its numbers.
    ///
    /// # Errors
    /// [`Failure::InvalidEvent`] if the payload is not JSON, which no host accepts. Every accepted payload is read without loss. Of
    /// a repeated key in one object, the last value counts.
    pub fn json(&self) -> Result<Value, Failure> {
        crate::value::parse(&self.payload).map_err(|error| Failure::invalid_event("not-json", error.to_string()))
    }

    /// Returns the value of `eventData`.
    ///
    /// # Errors
    /// [`Failure::InvalidEvent`] if there is none, which no host accepts.
    pub fn data(&self) -> Result<Map<String, Value>, Failure> {
        match self.json()? {
            Value::Object(mut envelope) => match envelope.remove("eventData") {
                Some(Value::Object(data)) => Ok(data),
                _ => Err(Failure::invalid_event("no-event-data", "the payload has no object eventData")),
            },
            _ => Err(Failure::invalid_event("no-envelope", "the payload is no JSON object")),
        }
    }

    /// Returns true for an event about a person or a company.
    pub fn is_contact(&self) -> bool {
        self.module.as_deref() == Some("Contact")
    }

    /// Returns true for an event about a deal.
    pub fn is_deal(&self) -> bool {
        self.module.as_deref() == Some("Deal")
    }

    /// Returns the contact of the event.
    ///
    /// # Errors
    /// [`Failure::InvalidEvent`] if the event is not about a contact.
    pub fn contact(&self) -> Result<Contact, Failure> {
        if self.is_contact() {
            self.data().map(Contact::new)
        } else {
            Err(Failure::invalid_event("not-a-contact", format!("{:?} is not about a contact", self.name)))
        }
    }

    /// Returns the deal of the event.
    ///
    /// # Errors
    /// [`Failure::InvalidEvent`] if the event is not about a deal.
    pub fn deal(&self) -> Result<Deal, Failure> {
        if self.is_deal() {
            self.data().map(Deal::new)
        } else {
            Err(Failure::invalid_event("not-a-deal", format!("{:?} is not about a deal", self.name)))
        }
    }

    /// Returns the payload with an edited `eventData`. Everything else is unchanged: unknown fields, the order of keys, the digits
    /// of numbers (an exponent is always written as `1e+3`).
    ///
    /// # Errors
    /// [`Failure::InvalidEvent`] as for [`Event::data`].
    pub fn edit(&self, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<Outgoing, Failure> {
        let mut envelope = self.json()?;
        let data = envelope.get_mut("eventData").and_then(Value::as_object_mut);
        edit(data.ok_or_else(|| Failure::invalid_event("no-event-data", "the payload has no object eventData"))?);
        Ok(Outgoing::json(&envelope))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Body, testing};
    use serde_json::Value;

    #[test]
    fn an_edit_touches_nothing_else() {
        let payload = r#"{"eventName":"Contact is Updated","eventData":{"z":1.0,"a":12345678901234567890123,"id":5701666712059904,"e":1E3,"n":null,"deep":{"y":[],"x":"é"}}}"#;
        let event = testing::event(payload);
        let outgoing = event.edit(|data| drop(data.insert("n".into(), Value::from("new")))).expect("an object");
        // Only the spelling of an exponent is not kept.
        let expected = payload.replace("null", "\"new\"").replace("1E3", "1e+3");
        assert_eq!(outgoing.body, Body::Text(expected));
    }

    #[test]
    fn a_view_of_the_other_kind_is_refused() {
        let event = testing::event(r#"{"eventName":"Contact is Updated","eventData":{}}"#);
        assert!(event.contact().is_ok());
        assert_eq!(
            event.deal().map(drop).expect_err("no deal"),
            crate::Failure::invalid_event("not-a-deal", "\"Contact is Updated\" is not about a deal")
        );
    }
}
