//! Search of deliveries: by the contact or deal, a text of the event, and a span of time, besides state, webhook and event.
//!
//! # Guarantees
//! - The work of a search is bounded: a text is searched in the newest [`EVENTS_SEARCHED`] events, and at most [`EVENTS_MAX`] events
//!   are followed to their deliveries. The page says so where it left something out.

use crate::api::ApiState;
use crate::api::pages::PageError;
use crate::delivery::{DeliveryId, DeliveryState};
use crate::event::{EventId, Module};
use crate::store::{DeliveryFilter, EVENTS_SEARCHED, EventFilter, Span, grouped};
use crate::subscription::{SubscriptionId, TenantId};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;

/// Maximum number of events that a search follows to their deliveries.
const EVENTS_MAX: usize = 200;

/// Query of the list of deliveries.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::api::pages) struct DeliveryListParams {
    pub(super) state: String,
    pub(super) subscription: String,
    /// Id of the event.
    pub(super) event: String,
    /// Id of the contact or deal, after its module or without one.
    pub(super) entity: String,
    /// Text of the event.
    pub(super) text: String,
    /// Beginning and end of the span, as a date and time box writes them, in UTC.
    pub(super) from: String,
    pub(super) to: String,
    pub(super) cursor: String,
}

/// Search that was read.
#[derive(Debug, PartialEq)]
pub(super) struct Search {
    module: Option<Module>,
    entity_id: Option<String>,
    text: Option<String>,
    from_ms: Option<i64>,
    to_ms: Option<i64>,
}

/// Fault of a field of the search: its name and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api::pages) struct SearchFault {
    pub(in crate::api::pages) field: &'static str,
    pub(in crate::api::pages) detail: String,
}

/// Conditions of a list of deliveries.
pub(super) struct Selection {
    pub(super) filter: DeliveryFilter,
    /// Bound that the search met.
    pub(super) note: Option<String>,
}

impl DeliveryListParams {
    /// Returns the parameters of this list that are not blank, without the cursor.
    pub(super) fn pairs(&self) -> [(&'static str, &str); 7] {
        [
            ("state", &self.state),
            ("subscription", &self.subscription),
            ("event", &self.event),
            ("entity", &self.entity),
            ("text", &self.text),
            ("from", &self.from),
            ("to", &self.to),
        ]
    }

    /// Returns the query of a page of this list.
    pub(super) fn query(&self, cursor: Option<&str>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.pairs().into_iter().filter(|(_, value)| !value.is_empty()));
        if let Some(cursor) = cursor {
            query.append_pair("cursor", cursor);
        }
        query.finish()
    }

    /// Reads the parts of the search.
    pub(super) fn search(&self) -> Result<Search, SearchFault> {
        let (module, entity_id) = entity(self.entity.trim());
        let from_ms = time("from", &self.from)?;
        let to_ms = time("to", &self.to)?;
        if from_ms.zip(to_ms).is_some_and(|(from_ms, to_ms)| from_ms >= to_ms) {
            return Err(SearchFault { field: "to", detail: "the end must be later than the beginning".to_owned() });
        }
        let text = Some(self.text.trim()).filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Search { module, entity_id, text, from_ms, to_ms })
    }

    /// Returns the conditions of the list, for which events are searched first, if the search has a part of them.
    pub(super) async fn selection(
        &self,
        state: &ApiState,
        tenant: &TenantId,
        search: Search,
        limit: usize,
    ) -> Result<Selection, PageError> {
        let Search { module, entity_id, text, from_ms, to_ms } = search;
        let span = Span { from_ms: from_ms.unwrap_or(0), to_ms: to_ms.unwrap_or(i64::MAX) };
        let mut filter = DeliveryFilter {
            subscription: self.subscription.parse().ok().map(SubscriptionId),
            state: DeliveryState::ALL.into_iter().find(|state| state.as_str() == self.state),
            event: self.event.trim().parse().ok().map(EventId),
            among: None,
            span: (from_ms.is_some() || to_ms.is_some()).then_some(span),
            before: self.cursor.parse().ok().map(DeliveryId),
            limit,
        };
        if entity_id.is_none() && text.is_none() {
            return Ok(Selection { filter, note: None });
        }
        let has_text = text.is_some();
        // Deliveries of earlier events may have been made in the span, by a replay.
        let until = to_ms.map(|to_ms| Span { from_ms: 0, to_ms });
        let wanted = EventFilter { module, entity_id, text, span: until, limit: EVENTS_MAX, ..EventFilter::default() };
        let events = state.operations.store.events(tenant.clone(), wanted).await?;
        let note = if events.len() == EVENTS_MAX {
            Some(format!(
                "Deliveries of the newest {EVENTS_MAX} events that match. For earlier ones, give an end of the time."
            ))
        } else if has_text {
            let searched = grouped(EVENTS_SEARCHED as u64);
            Some(format!(
                "The text was searched in the newest {searched} events. For earlier ones, give an end of the time."
            ))
        } else {
            None
        };
        filter.among = Some(events.into_iter().map(|event| event.id).collect());
        Ok(Selection { filter, note })
    }
}

/// Returns the module and the id of an entity, such as `57` or `Deal 57`.
fn entity(text: &str) -> (Option<Module>, Option<String>) {
    let named = text.split_once(char::is_whitespace).and_then(|(module, id)| {
        let module = Module::ALL.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(module))?;
        Some((Some(module), Some(id.trim().to_owned())))
    });
    named.unwrap_or_else(|| (None, Some(text.to_owned()).filter(|text| !text.is_empty())))
}

/// Parses the value of a date and time box, in UTC, to milliseconds since the epoch. Blank: none.
pub(in crate::api::pages) fn time(field: &'static str, text: &str) -> Result<Option<i64>, SearchFault> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let unfit = |_| SearchFault { field, detail: format!("{text:?} is not a time: write 2026-01-31T12:00") };
    let at: DateTime = text.trim().parse().map_err(unfit)?;
    Ok(Some(at.to_zoned_datetime(TimeZone::UTC).map_err(unfit)?.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_has_a_module_or_none() {
        #[track_caller]
        fn check(text: &str, module: Option<Module>, id: Option<&str>) {
            assert_eq!(entity(text), (module, id.map(str::to_owned)), "{text:?}");
        }
        check("", None, None);
        check("57", None, Some("57"));
        check("deal 57", Some(Module::Deal), Some("57"));
        check("Contact  a b", Some(Module::Contact), Some("a b"));
        check("a b", None, Some("a b"));
    }

    #[test]
    fn a_span_is_read_from_date_and_time_boxes() {
        fn params(from: &str, to: &str) -> DeliveryListParams {
            DeliveryListParams { from: from.into(), to: to.into(), ..DeliveryListParams::default() }
        }
        #[track_caller]
        fn check(from: &str, to: &str, expected: Result<[Option<i64>; 2], (&str, &str)>) {
            let found = params(from, to).search();
            let found = found.map(|search| [search.from_ms, search.to_ms]);
            assert_eq!(
                found,
                expected.map_err(|(field, detail)| SearchFault {
                    field: if field == "from" { "from" } else { "to" },
                    detail: detail.to_owned()
                })
            );
        }
        check("", " ", Ok([None, None]));
        check("2024-03-01T10:09", "2024-03-01T10:09:05", Ok([Some(1_709_287_740_000), Some(1_709_287_745_000)]));
        check("yesterday", "", Err(("from", "\"yesterday\" is not a time: write 2026-01-31T12:00")));
        check("2024-03-01T10:09", "2024-03-01T10:09", Err(("to", "the end must be later than the beginning")));
    }

    #[test]
    fn a_page_keeps_the_search() {
        let params = DeliveryListParams {
            entity: "Deal 57".into(),
            text: "a&b".into(),
            cursor: "old".into(),
            ..DeliveryListParams::default()
        };
        assert_eq!(params.query(Some("7")), "entity=Deal+57&text=a%26b&cursor=7");
        assert_eq!(params.query(None), "entity=Deal+57&text=a%26b");
    }
}
