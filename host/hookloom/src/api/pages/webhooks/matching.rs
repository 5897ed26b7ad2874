//! Last events that match a webhook's form, and those that do not, with the reason.

use crate::api::ApiState;
use crate::api::pages::DisplayTime;
use crate::api::pages::forms::Form;
use crate::api::pages::user::TenantUser;
use crate::event::Module;
use crate::operations::{FilterTrial, FilterTrialBody, MatchingEvent, Problem, RefusedEvent, ToRead};
use crate::store::grouped;
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use serde_json::Value;
use uuid::Uuid;

/// Result of a count.
pub(in crate::api::pages) struct Matching {
    pub(in crate::api::pages) summary: String,
    /// The newest that match.
    pub(in crate::api::pages) newest: Vec<EventLine>,
    /// The newest that do not match.
    pub(in crate::api::pages) refused: Vec<EventLine>,
    /// Names of the fields of the events.
    pub(in crate::api::pages) fields: Vec<String>,
}

/// Event in a list.
pub(in crate::api::pages) struct EventLine {
    pub(in crate::api::pages) href: String,
    pub(in crate::api::pages) name: String,
    pub(in crate::api::pages) entity: String,
    pub(in crate::api::pages) at: DisplayTime,
    /// Reason why it does not match.
    pub(in crate::api::pages) why: String,
}

impl EventLine {
    fn new(tenant: &TenantId, event: MatchingEvent, why: String) -> Self {
        let MatchingEvent { id, name, module, entity_id, received_at_ms } = event;
        EventLine {
            href: UrlPath::pages_of(tenant).then("events").then(&id).to_string(),
            name,
            entity: entity_id.map(|entity| format!("{} {entity}", module.as_str())).unwrap_or_default(),
            at: DisplayTime::at_ms(received_at_ms),
            why,
        }
    }
}

impl Matching {
    /// Tries the modules and event names of a form with its filter. `id` is the webhook that it belongs to.
    pub(super) async fn of(
        state: &ApiState,
        user: &TenantUser,
        form: &Form,
        filter: Value,
        id: Option<Uuid>,
    ) -> Result<Self, Problem> {
        let operations = &state.operations;
        let earlier = match id {
            Some(id) => operations.subscription(&user.tenant, id)?.settings.events.clone(),
            None => Vec::new(),
        };
        let chosen = modules_in(form)?;
        let is_of_all = chosen.is_empty();
        let modules = if is_of_all { Module::ALL.to_vec() } else { chosen };
        let events = form.all("events").into_iter().map(str::to_owned).collect();
        let trial = FilterTrial { modules, events, filter: filter.into() };
        let tried = operations.try_filter(&user.access::<ToRead>(state)?, trial, &earlier).await?;
        let summary = summary(&tried, is_of_all);
        let newest = tried.newest_matching.into_iter();
        let refused = tried.refused.into_iter().map(|refused| {
            let RefusedEvent { id, name, module, entity_id, received_at_ms, why } = refused;
            EventLine::new(&user.tenant, MatchingEvent { id, name, module, entity_id, received_at_ms }, why)
        });
        Ok(Matching {
            summary,
            newest: newest.map(|event| EventLine::new(&user.tenant, event, String::new())).collect(),
            refused: refused.collect(),
            fields: tried.fields,
        })
    }
}

/// Returns the modules whose boxes are checked.
pub(super) fn modules_in(form: &Form) -> Result<Vec<Module>, Problem> {
    fn module(name: &str) -> Result<Module, Problem> {
        Module::parse(name).ok_or_else(|| Problem::field("/modules", format!("{name:?} is not a module")))
    }
    form.all("modules").into_iter().map(module).collect()
}

/// Says how many events match.
fn summary(tried: &FilterTrialBody, is_of_all: bool) -> String {
    let FilterTrialBody { events, matching, has_more, .. } = *tried;
    let of = if is_of_all { " No module is chosen, so events of all modules were looked at." } else { "" };
    if events == 0 {
        return format!("No such event has come yet.{of}");
    }
    let verb = if matching == 1 { "matches" } else { "match" };
    let [matching, looked_at] = [matching, events].map(|number| grouped(number as u64));
    let noun = if events == 1 { "event" } else { "events" };
    if has_more {
        format!("{matching} of the last {looked_at} {noun} {verb}.{of}")
    } else {
        format!("{matching} of {looked_at} {noun} so far {verb}.{of}")
    }
}
