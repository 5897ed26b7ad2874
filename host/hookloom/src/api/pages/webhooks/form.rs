//! Form of a webhook: the vendor's two fields, event names, filter, settling, plugin, configuration and name, and all other settings
//! in folded parts.

use super::config_fields::{FieldGroup, PREFIX, groups};
use super::filter_form::{COUNT, FILTER, FilterForm, filter_in};
use super::matching::modules_in;
use super::setting_form::{FoldedPart, SecretForm, changed, parts_again, parts_of, secrets_in};
use super::settle_form::{SettleForm, settle_in};
use crate::api::ApiState;
use crate::api::pages::PageError;
use crate::api::pages::forms::{Form, as_lines, pairs};
use crate::api::pages::user::TenantUser;
use crate::chain::{Chain, ChainText};
use crate::event::Module;
use crate::operations::subscriptions::{event_names, read_filter};
use crate::operations::{Problem, SubscriptionWrite};
use crate::subscription::{Settings, Subscription, TenantId};
use crate::url_path::UrlPath;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Field of the button that draws the fields of the chosen plugins and saves nothing.
pub(super) const FIELDS: &str = "fields";

/// Form with its values.
pub(super) struct WebhookForm {
    pub(super) action: String,
    pub(super) problem: String,
    /// Field and message of each fault, in the order of the form.
    pub(super) errors: Vec<(&'static str, String)>,
    pub(super) notify_url: String,
    /// Each module, and whether its box is checked.
    pub(super) modules: Vec<(&'static str, bool)>,
    /// Each event name, and whether its box is checked.
    pub(super) events: Vec<(String, bool)>,
    pub(super) filter: FilterForm,
    pub(super) settle: SettleForm,
    pub(super) description: String,
    pub(super) plugin: String,
    pub(super) plugins: Vec<String>,
    /// Fields of the plugins that have a manifest.
    pub(super) groups: Vec<FieldGroup>,
    /// Configuration without a field, as lines.
    pub(super) config: String,
    /// Plugin that another page has added, and that is not saved yet.
    pub(super) added_plugin: Option<String>,
    /// Folded parts with all other settings.
    pub(super) parts: Vec<FoldedPart>,
    pub(super) secrets: SecretForm,
}

/// Fields with a place for their faults, in the order of the form.
const FIELDS_IN_ORDER: [&str; 8] =
    ["notify_url", "modules", "events", "filter", "settle", "description", "plugin", "config"];

/// Modules of the boxes: those of the vendor's form, and the host's.
const MODULES: [Module; 4] = Module::ALL;

impl WebhookForm {
    pub(super) async fn blank(state: &ApiState, tenant: &TenantId) -> Result<Self, PageError> {
        Ok(WebhookForm {
            action: UrlPath::pages_of(tenant).then("webhooks").to_string(),
            problem: String::new(),
            errors: Vec::new(),
            notify_url: String::new(),
            modules: MODULES.map(|module| (module.as_str(), false)).to_vec(),
            events: events(state, tenant, &[]),
            filter: FilterForm::of(None),
            settle: SettleForm::default(),
            description: String::new(),
            plugin: String::new(),
            plugins: plugins(state, tenant).await?,
            groups: Vec::new(),
            config: String::new(),
            added_plugin: None,
            parts: parts_of(&Settings::new(String::new(), Vec::new())),
            secrets: SecretForm::default(),
        })
    }

    pub(super) async fn of(state: &ApiState, subscription: &Subscription) -> Result<Self, PageError> {
        let settings = &subscription.settings;
        fn step(step: &crate::chain::Step) -> String {
            match &step.pin {
                Some(pin) => format!("{}@{pin}", step.plugin),
                None => step.plugin.to_string(),
            }
        }
        let mut config = settings.config.clone();
        let groups = groups(state, &subscription.tenant, &settings.plugin, &mut config, None).await?;
        Ok(WebhookForm {
            groups,
            action: UrlPath::pages_of(&subscription.tenant).then("webhooks").then(&subscription.id).to_string(),
            notify_url: settings.notify_url.clone(),
            modules: MODULES.map(|module| (module.as_str(), settings.modules.contains(&module))).to_vec(),
            events: events(state, &subscription.tenant, &settings.events),
            filter: FilterForm::of(settings.filter.as_ref()),
            settle: SettleForm::of(settings.settle),
            description: settings.description.clone(),
            plugin: settings.plugin.0.iter().map(step).collect::<Vec<_>>().join(", "),
            config: as_lines(&config),
            parts: parts_of(settings),
            secrets: SecretForm::of(settings),
            ..WebhookForm::blank(state, &subscription.tenant).await?
        })
    }

    /// Returns true if a field has a fault, which gets the focus.
    pub(super) fn has_fault_at_field(&self) -> bool {
        !self.errors.is_empty() || self.parts.iter().any(|part| part.is_open)
    }

    /// Returns the fault of a field, if there is one.
    pub(super) fn error(&self, field: &str) -> Option<&str> {
        self.errors.iter().find(|(name, _)| *name == field).map(|(_, detail)| detail.as_str())
    }

    /// Shows a submitted form again, with its problem, with the fields of another plugin, or with the events that match.
    pub(super) async fn again(
        state: &ApiState,
        user: &TenantUser,
        form: &Form,
        problem: Option<&Problem>,
        id: Option<Uuid>,
    ) -> Result<Self, PageError> {
        let tenant = &user.tenant;
        let (filter, count_problem) = if form.has(COUNT) {
            FilterForm::counted(state, user, form, id).await?
        } else {
            (FilterForm::again(form, problem), None)
        };
        let problem = problem.or(count_problem.as_ref());
        let blank = WebhookForm::blank(state, tenant).await?;
        let old = id.map(|id| state.operations.subscription(tenant, id)).transpose()?;
        let ticked = form.all("modules");
        // A text that cannot be read stays as it is, beside its problem.
        let mut config = config_of(form).unwrap_or_else(|_| fields_of(form));
        let text_is_readable = config_of(form).is_ok();
        let chain = chain_of(form).unwrap_or_default();
        let groups = groups(state, tenant, &chain, &mut config, problem).await?;
        let mut errors = problem.map(|problem| problem.of_fields(&FIELDS_IN_ORDER)).unwrap_or_default();
        // Faults of keys with a field stand beside the field.
        let is_elsewhere = groups.iter().flat_map(|group| &group.fields).any(|field| field.error.is_some());
        if is_elsewhere {
            errors.retain(|(field, _)| *field != "config");
        }
        let chosen: Vec<String> = form.all("events").into_iter().map(str::to_owned).collect();
        Ok(WebhookForm {
            groups,
            filter,
            settle: SettleForm::again(form),
            events: events(state, tenant, &chosen),
            action: id.map_or(blank.action, |id| UrlPath::pages_of(tenant).then("webhooks").then(&id).to_string()),
            problem: problem.map(Problem::in_words).unwrap_or_default(),
            errors,
            notify_url: form.get("notify_url").to_owned(),
            modules: MODULES.map(|module| (module.as_str(), ticked.contains(&module.as_str()))).to_vec(),
            description: form.get("description").to_owned(),
            plugin: form.get("plugin").to_owned(),
            plugins: blank.plugins,
            added_plugin: None,
            parts: parts_again(form, old.as_deref(), problem),
            secrets: SecretForm::again(form, old.as_deref(), problem),
            config: if text_is_readable { as_lines(&config) } else { form.get("config").to_owned() },
        })
    }
}

/// Returns the event names of the boxes: those of the tenant, and chosen ones that it does not accept any more.
fn events(state: &ApiState, tenant: &TenantId, chosen: &[String]) -> Vec<(String, bool)> {
    let names: Vec<String> = event_names(&state.operations, tenant).into_iter().map(|(name, _)| name).collect();
    let earlier = chosen.iter().filter(|name| !names.contains(name)).map(|name| (name.clone(), true));
    names.iter().map(|name| (name.clone(), chosen.contains(name))).chain(earlier).collect()
}

async fn plugins(state: &ApiState, tenant: &TenantId) -> Result<Vec<String>, PageError> {
    let all = state.operations.store.plugins().await?;
    Ok(all.into_iter().filter(|plugin| plugin.tenant == *tenant).map(|plugin| plugin.name).collect())
}

/// Returns the settings of the form. Settings without a field stay.
pub(super) fn settings(form: &Form, old: Option<&Subscription>) -> Result<SubscriptionWrite, Problem> {
    let config = config_of(form).map_err(|detail| Problem::field("/config", detail))?;
    let plugin = chain_of(form).map_err(|detail| Problem::field("/plugin", detail))?;
    let modules = modules_in(form)?;
    let notify_url = form.get("notify_url").to_owned();
    let description = form.get("description").to_owned();
    let others = match old {
        Some(old) => Settings::clone(&old.settings),
        None => Settings::new(String::new(), Vec::new()),
    };
    let (events, filter) = if form.contains(FILTER) {
        (form.all("events").into_iter().map(str::to_owned).collect(), read_filter(filter_in(form)?)?)
    } else {
        (others.events.clone(), others.filter.clone())
    };
    let settle = settle_in(form, others.settle)?;
    let others = changed(form, others)?;
    let settings = Settings { notify_url, modules, events, filter, settle, description, config, plugin, ..others };
    let secrets = secrets_in(form)?;
    Ok(SubscriptionWrite::of(settings).with_secrets(secrets.values, secrets.signing_secret))
}

/// Returns the plugins of the form, in their order.
fn chain_of(form: &Form) -> Result<Chain, String> {
    chain_in(form.get("plugin"))
}

/// Returns the plugins of a text with commas between their names.
pub(super) fn chain_in(text: &str) -> Result<Chain, String> {
    let plugins = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    Chain::try_from(ChainText::Many(plugins.map(str::to_owned).collect()))
}

/// Returns the config of the form: its text, and the fields of the plugins.
fn config_of(form: &Form) -> Result<BTreeMap<String, String>, String> {
    let mut config = pairs(form.get("config"))?;
    config.extend(fields_of(form));
    Ok(config)
}

/// Returns the fields of the plugins that are not blank.
fn fields_of(form: &Form) -> BTreeMap<String, String> {
    let fields = form.beginning_with(PREFIX).filter(|(_, value)| !value.trim().is_empty());
    fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
