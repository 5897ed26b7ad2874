//! Trial of modules, event names and a filter on the tenant's last events. Nothing is stored or sent.
//!
//! # Guarantees
//! - At most [`EVENTS_MAX`] events are looked at, of at most [`BYTES_MAX`] together, for about [`TIME_MAX`]. The answer says how many
//!   were.
//! - Events are parsed outside of the network threads.
//!
//! # Limits
//! Events that were made for a test of a subscription are left out.

use super::subscriptions::{EventSelection, filter_problem, read_filter, selection_faults};
use super::{Access, Operations, Problem, ToRead};
use crate::clock::instant;
use crate::event::{Event, EventId, Module};
use crate::filter::{Decision, Document, Filter, ParsedEvent, Refusal, WrittenFilter};
use crate::store::EventFilter;
use crate::subscription::TenantId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use utoipa::ToSchema;
use uuid::Uuid;

/// Maximum number of events that are looked at.
const EVENTS_MAX: usize = 1_000;

/// Maximum size of these events together, in bytes.
const BYTES_MAX: u64 = 8 << 20;

/// Time after which no further event is looked at.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Maximum number of refused events that are explained.
const REFUSED_SHOWN_MAX: usize = 20;

/// Maximum number of matching events that are described.
const MATCHING_SHOWN_MAX: usize = 10;

/// Maximum number of names of fields in an answer.
const FIELDS_MAX: usize = 200;

/// Modules, event names and filter to try, as in a subscription.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilterTrial {
    /// Modules whose events are looked at. All of them if absent.
    #[serde(default = "all_modules")]
    pub(crate) modules: Vec<Module>,
    /// Names of the events that match. Empty: all of the modules.
    #[serde(default)]
    pub(crate) events: Vec<String>,
    /// Conditions that an event must meet. Absent: none.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) filter: WrittenFilter,
}

fn all_modules() -> Vec<Module> {
    Module::ALL.to_vec()
}

/// Events that match.
#[derive(Serialize, ToSchema)]
pub(crate) struct FilterTrialBody {
    /// Number of events that were looked at: the last ones of the modules.
    pub(crate) events: usize,
    /// True if there are older events that were not looked at, because there are more than 1,000, because the ones before are too
    /// large, or because the time was over.
    pub(crate) has_more: bool,
    /// Number of those that match.
    pub(crate) matching: usize,
    /// Ids of those that match, newest first.
    pub(crate) matching_ids: Vec<Uuid>,
    /// The newest ten of those that match.
    pub(crate) newest_matching: Vec<MatchingEvent>,
    /// The newest twenty that do not match, with the reason.
    pub(crate) refused: Vec<RefusedEvent>,
    /// Names of the fields of the events that were looked at.
    pub(crate) fields: Vec<String>,
}

/// Event that matches.
#[derive(Serialize, ToSchema)]
pub(crate) struct MatchingEvent {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) module: Module,
    /// `eventData.id` as text. Absent: there is none of at most 255 bytes.
    pub(crate) entity_id: Option<String>,
    pub(crate) received_at_ms: i64,
}

impl From<&Event> for MatchingEvent {
    fn from(event: &Event) -> Self {
        MatchingEvent {
            id: event.id.0,
            name: event.name.clone(),
            module: event.module,
            entity_id: event.entity_id.clone(),
            received_at_ms: event.received_at_ms,
        }
    }
}

/// Event that does not match.
#[derive(Serialize, ToSchema)]
pub(crate) struct RefusedEvent {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) module: Module,
    /// `eventData.id` as text. Absent: there is none of at most 255 bytes.
    pub(crate) entity_id: Option<String>,
    pub(crate) received_at_ms: i64,
    /// Reason why it does not match.
    pub(crate) why: String,
}

impl RefusedEvent {
    fn new(event: &Event, why: String) -> Self {
        let MatchingEvent { id, name, module, entity_id, received_at_ms } = event.into();
        RefusedEvent { id, name, module, entity_id, received_at_ms, why }
    }
}

/// Events that were parsed, with what is known without the events before them.
struct Looked {
    events: Vec<(Arc<Event>, Outcome)>,
    fields: BTreeSet<String>,
}

/// Outcome for an event.
enum Outcome {
    Matches,
    Refused(String),
    /// It depends on the event before.
    Depends,
}

impl Operations {
    /// Tells which of the last events match. `earlier` has event names that the tenant may not accept any more.
    pub(crate) async fn try_filter(
        &self,
        access: &Access<ToRead>,
        trial: FilterTrial,
        earlier: &[String],
    ) -> Result<FilterTrialBody, Problem> {
        let FilterTrial { mut modules, events, filter } = trial;
        modules.sort_unstable();
        modules.dedup();
        let filter = read_filter(filter.source().map_err(filter_problem)?)?;
        let selection = EventSelection { modules: &modules, events: &events, earlier };
        let faults = selection_faults(&selection, self, &access.tenant);
        if !faults.is_empty() {
            return Err(Problem::fields(faults));
        }
        let until = instant() + TIME_MAX;
        let within = self.newest_within(&access.tenant, &modules).await?;
        let recent = self.store.recent_events(access.tenant.clone(), modules, within.count).await?;
        let looked = {
            let filter = filter.clone();
            self.cpu.run(Some(&access.tenant), move || look(recent, &events, filter.as_ref(), until)).await?
        };
        self.judged(&access.tenant, looked, filter.as_ref(), until, within).await
    }

    /// Completes the outcomes that depend on the event before.
    async fn judged(
        &self,
        tenant: &TenantId,
        looked: Looked,
        filter: Option<&Filter>,
        until: Instant,
        within: Newest,
    ) -> Result<FilterTrialBody, Problem> {
        let mut body = FilterTrialBody {
            events: 0,
            has_more: within.has_more,
            matching: 0,
            matching_ids: Vec::new(),
            newest_matching: Vec::new(),
            refused: Vec::new(),
            fields: looked.fields.into_iter().take(FIELDS_MAX).collect(),
        };
        for (event, outcome) in looked.events {
            let refusal = match (outcome, filter) {
                (Outcome::Refused(why), _) => Some(why),
                (Outcome::Depends, Some(filter)) => {
                    if instant() >= until {
                        body.has_more = true;
                        break;
                    }
                    self.refusal(tenant, &event, filter).await?.map(|refusal| refusal.to_string())
                }
                (Outcome::Matches | Outcome::Depends, _) => None,
            };
            body.events += 1;
            match refusal {
                None => {
                    if body.newest_matching.len() < MATCHING_SHOWN_MAX {
                        body.newest_matching.push((&*event).into());
                    }
                    body.matching_ids.push(event.id.0);
                }
                Some(why) if body.refused.len() < REFUSED_SHOWN_MAX => {
                    body.refused.push(RefusedEvent::new(&event, why));
                }
                Some(_) => {}
            }
        }
        body.matching = body.matching_ids.len();
        // Events that were not looked at because the time was over.
        body.has_more |= body.events < within.count;
        Ok(body)
    }

    /// Returns the first condition of a filter that does not hold for a stored event.
    pub(crate) async fn refusal(
        &self,
        tenant: &TenantId,
        event: &Event,
        filter: &Filter,
    ) -> Result<Option<Refusal>, Problem> {
        let previous = self.store.previous(tenant.clone(), event).await?;
        let previous = previous.as_deref().map(ParsedEvent::of);
        let previous = previous.as_ref().map(ParsedEvent::document);
        Ok(filter.refusal(&ParsedEvent::of(event).document(), previous.as_ref()))
    }

    /// Returns the number of the newest events that are within the limits.
    async fn newest_within(&self, tenant: &TenantId, modules: &[Module]) -> Result<Newest, Problem> {
        let mut newest: Vec<(EventId, u64)> = Vec::new();
        for module in modules {
            let filter = EventFilter { module: Some(*module), limit: EVENTS_MAX + 1, ..EventFilter::default() };
            newest.extend(self.store.events(tenant.clone(), filter).await?.iter().map(|event| (event.id, event.bytes)));
        }
        newest.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        let mut bytes = 0;
        let fits = newest.iter().take(EVENTS_MAX).take_while(|(_, size)| {
            bytes += size;
            bytes <= BYTES_MAX
        });
        let count = fits.count();
        Ok(Newest { count, has_more: count < newest.len() })
    }
}

/// Number of events that are looked at.
#[derive(Clone, Copy)]
struct Newest {
    count: usize,
    /// True if there are older ones.
    has_more: bool,
}

/// Evaluates what does not depend on the events before.
fn look(events: Vec<Arc<Event>>, names: &[String], filter: Option<&Filter>, until: Instant) -> Looked {
    let mut looked = Looked { events: Vec::with_capacity(events.len()), fields: BTreeSet::new() };
    for event in events {
        if instant() >= until {
            break;
        }
        let parsed = ParsedEvent::of(&event);
        let document = parsed.document();
        if looked.fields.len() < FIELDS_MAX {
            looked.fields.extend(document.field_names().map(str::to_owned));
        }
        let outcome = outcome(&event, &document, names, filter);
        looked.events.push((event, outcome));
    }
    looked
}

fn outcome(event: &Event, document: &Document<'_>, names: &[String], filter: Option<&Filter>) -> Outcome {
    if !names.is_empty() && !names.contains(&event.name) {
        return Outcome::Refused(format!("events do not include {}", event.name));
    }
    let Some(filter) = filter else { return Outcome::Matches };
    match filter.decide(document) {
        Decision::Matches => Outcome::Matches,
        Decision::Depends(_) => Outcome::Depends,
        // What is decided does not depend on the event before.
        Decision::Refuses => {
            Outcome::Refused(filter.refusal(document, None).map_or_else(String::new, |refusal| refusal.to_string()))
        }
    }
}
