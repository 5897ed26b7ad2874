//! Form of a webhook: the vendor's two fields, and plugin, configuration and name.

use crate::api::ApiState;
use crate::api::pages::PageError;
use crate::api::pages::forms::{Form, as_lines, pairs};
use crate::api::problem::Problem;
use crate::event::Module;
use crate::subscription::{Subscription, TenantId};
use crate::url_path::UrlPath;
use serde_json::{Value, json};
use uuid::Uuid;

/// Form with its values.
pub(super) struct WebhookForm {
    pub(super) action: String,
    pub(super) problem: String,
    /// Field and message of each fault, in the order of the form.
    pub(super) errors: Vec<(&'static str, String)>,
    pub(super) notify_url: String,
    /// Each module, and whether its box is checked.
    pub(super) modules: Vec<(&'static str, bool)>,
    pub(super) description: String,
    pub(super) plugin: String,
    pub(super) plugins: Vec<String>,
    pub(super) config: String,
}

/// Modules of the boxes: those of the vendor's form, and the host's.
const MODULES: [Module; 3] = [Module::Contact, Module::Deal, Module::Subscription];

impl WebhookForm {
    pub(super) async fn blank(state: &ApiState, tenant: &TenantId) -> Result<Self, PageError> {
        Ok(WebhookForm {
            action: UrlPath::pages_of(tenant).then("webhooks").to_string(),
            problem: String::new(),
            errors: Vec::new(),
            notify_url: String::new(),
            modules: MODULES.map(|module| (module.as_str(), false)).to_vec(),
            description: String::new(),
            plugin: String::new(),
            plugins: plugins(state, tenant).await?,
            config: String::new(),
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
        Ok(WebhookForm {
            action: UrlPath::pages_of(&subscription.tenant).then("webhooks").then(&subscription.id).to_string(),
            notify_url: settings.notify_url.clone(),
            modules: MODULES.map(|module| (module.as_str(), settings.modules.contains(&module))).to_vec(),
            description: settings.description.clone(),
            plugin: settings.plugin.0.iter().map(step).collect::<Vec<_>>().join(", "),
            config: as_lines(&settings.config),
            ..WebhookForm::blank(state, &subscription.tenant).await?
        })
    }

    /// Returns the fault of a field, if there is one.
    pub(super) fn error(&self, field: &str) -> Option<&str> {
        self.errors.iter().find(|(name, _)| *name == field).map(|(_, detail)| detail.as_str())
    }

    /// Shows a submitted form again, with its problem.
    pub(super) async fn again(
        state: &ApiState,
        tenant: &TenantId,
        form: &Form,
        problem: &Problem,
        id: Option<Uuid>,
    ) -> Result<Self, PageError> {
        let blank = WebhookForm::blank(state, tenant).await?;
        let ticked = form.all("modules");
        Ok(WebhookForm {
            action: id.map_or(blank.action, |id| UrlPath::pages_of(tenant).then("webhooks").then(&id).to_string()),
            problem: problem.in_words(),
            errors: problem.of_fields(&["notify_url", "modules", "description", "plugin", "config"]),
            notify_url: form.get("notify_url").to_owned(),
            modules: MODULES.map(|module| (module.as_str(), ticked.contains(&module.as_str()))).to_vec(),
            description: form.get("description").to_owned(),
            plugin: form.get("plugin").to_owned(),
            plugins: blank.plugins,
            config: form.get("config").to_owned(),
        })
    }
}

async fn plugins(state: &ApiState, tenant: &TenantId) -> Result<Vec<String>, PageError> {
    let all = state.store.plugins().await?;
    Ok(all.into_iter().filter(|plugin| plugin.tenant == *tenant).map(|plugin| plugin.name).collect())
}

/// Returns the body of the REST route. Settings that the form does not show stay.
pub(super) fn settings(form: &Form, old: Option<&Subscription>) -> Result<Value, Problem> {
    let config = pairs(form.get("config")).map_err(|detail| Problem::field("/config", detail))?;
    let plugins: Vec<&str> = form.get("plugin").split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut body = match old {
        Some(old) => serde_json::to_value(&*old.settings).unwrap_or_default(),
        None => json!({}),
    };
    body["notify_url"] = form.get("notify_url").into();
    body["modules"] = json!(form.all("modules"));
    body["description"] = form.get("description").into();
    body["config"] = json!(config);
    body["plugin"] = if plugins.is_empty() { Value::Null } else { json!(plugins) };
    Ok(body)
}
