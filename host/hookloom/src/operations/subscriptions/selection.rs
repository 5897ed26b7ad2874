//! Validation of the choice of events: modules, event names and filter.

use crate::event::{HOST_EVENT_NAMES, Module, VENDOR_EVENT_NAMES};
use crate::filter::{Filter, FilterError, WrittenFilter};
use crate::operations::{FieldFault, Operations, Problem, fault};
use crate::subscription::{SubscriptionId, TenantId};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Maximum number of event names of a subscription.
const EVENTS_MAX: usize = 100;

/// Modules and event names that a subscription chooses.
pub(crate) struct EventSelection<'s> {
    pub(crate) modules: &'s [Module],
    pub(crate) events: &'s [String],
    /// Event names that the subscription has already. The tenant may not accept them any more.
    pub(crate) earlier: &'s [String],
}

/// Parses a filter. Null is none.
pub(crate) fn read_filter(filter: Value) -> Result<Option<Filter>, Problem> {
    if filter.is_null() {
        return Ok(None);
    }
    Filter::parse(filter).map(Some).map_err(filter_problem)
}

/// Returns the answer to a wrong filter.
pub(crate) fn filter_problem(FilterError { pointer, detail }: FilterError) -> Problem {
    Problem::field(&format!("/filter{pointer}"), detail)
}

/// Parses the body of a subscription. Its filter is checked as text, because parsed JSON shows no repeated key.
pub(super) fn read_body(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    #[derive(Deserialize)]
    #[serde(expecting = "a map")]
    struct WithFilter {
        #[serde(default)]
        filter: WrittenFilter,
    }
    let WithFilter { filter } = serde_json::from_slice(body).map_err(Problem::invalid_body)?;
    filter.source().map_err(filter_problem)?;
    serde_json::from_slice(body).map_err(Problem::invalid_body)
}

/// Maximum number of regular expressions in the filters of a tenant: each takes up to some hundred kilobytes of memory.
const REGEXES_MAX: usize = 400;

/// Returns the fault of a filter with more regular expressions than the tenant has left. `id` is the subscription that it is for.
pub(super) fn regex_fault(
    filter: &Filter,
    operations: &Operations,
    tenant: &TenantId,
    id: Option<SubscriptionId>,
) -> Option<FieldFault> {
    if filter.regexes() == 0 {
        return None;
    }
    let subscriptions = operations.store.catalog().subscriptions(tenant);
    let others = subscriptions.iter().filter(|other| Some(other.id) != id);
    let used: usize = others.filter_map(|other| other.settings.filter.as_ref()).map(Filter::regexes).sum();
    let detail =
        format!("the filters of a tenant have at most {REGEXES_MAX} regular expressions, and the others have {used}");
    (used + filter.regexes() > REGEXES_MAX).then(|| fault("/filter", detail))
}

/// Returns the faults of a choice of modules and event names.
pub(crate) fn selection_faults(
    selection: &EventSelection<'_>,
    operations: &Operations,
    tenant: &TenantId,
) -> Vec<FieldFault> {
    let EventSelection { modules, events, earlier, .. } = selection;
    let mut faults = Vec::new();
    if modules.is_empty() {
        // The message of the vendor's form.
        faults.push(fault("/modules", "Please select at least one option."));
    }
    if events.len() > EVENTS_MAX {
        faults.push(fault("/events", format!("at most {EVENTS_MAX} event names")));
        return faults;
    }
    for (index, name) in events.iter().enumerate() {
        let pointer = format!("/events/{index}");
        match module_of(operations, tenant, name) {
            Some(module) if modules.contains(&module) => {}
            Some(module) => {
                let module = module.as_str();
                faults.push(fault(
                    &pointer,
                    format!("{name:?} is an event of the module {module}, which is not in modules"),
                ));
            }
            None if earlier.contains(name) => {}
            None => {
                let names = event_names(operations, tenant);
                let names = names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                faults.push(fault(&pointer, format!("there is no such event; this tenant has: {names}")));
            }
        }
    }
    faults
}

fn module_of(operations: &Operations, tenant: &TenantId, name: &str) -> Option<Module> {
    let of_host = HOST_EVENT_NAMES.iter().find(|(of_host, _)| *of_host == name).map(|(_, module)| *module);
    of_host.or_else(|| operations.store.catalog().module_of(tenant, name))
}

/// Returns the event names of a tenant, with their modules.
pub(crate) fn event_names(operations: &Operations, tenant: &TenantId) -> Vec<(String, Module)> {
    let tenant = operations.store.catalog().tenant(tenant);
    let extra = tenant.iter().flat_map(|tenant| tenant.event_types.iter());
    let extra = extra.map(|(name, one)| (name.to_owned(), one.module));
    let fixed = VENDOR_EVENT_NAMES.into_iter().chain(HOST_EVENT_NAMES).map(|(name, module)| (name.to_owned(), module));
    fixed.chain(extra).collect()
}
