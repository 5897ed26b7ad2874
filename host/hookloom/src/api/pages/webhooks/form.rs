//! Form of a webhook: the vendor's two fields, and plugin, configuration and name.

use crate::api::ApiState;
use crate::api::pages::PageError;
use crate::api::pages::forms::{Form, as_lines, pairs};
use crate::chain::{Chain, ChainText};
use crate::event::Module;
use crate::operations::{Problem, SubscriptionWrite};
use crate::subscription::{Settings, Subscription, TenantId};
use crate::url_path::UrlPath;
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
    let all = state.operations.store.plugins().await?;
    Ok(all.into_iter().filter(|plugin| plugin.tenant == *tenant).map(|plugin| plugin.name).collect())
}

/// Returns the settings of the form. Settings that it does not show stay.
pub(super) fn settings(form: &Form, old: Option<&Subscription>) -> Result<SubscriptionWrite, Problem> {
    let config = pairs(form.get("config")).map_err(|detail| Problem::field("/config", detail))?;
    let plugins = form.get("plugin").split(',').map(str::trim).filter(|name| !name.is_empty());
    let plugins = ChainText::Many(plugins.map(str::to_owned).collect());
    let plugin = Chain::try_from(plugins).map_err(|detail| Problem::field("/plugin", detail))?;
    let modules = form
        .all("modules")
        .into_iter()
        .map(|name| Module::parse(name).ok_or_else(|| Problem::field("/modules", format!("{name:?} is not a module"))));
    let modules = modules.collect::<Result<_, _>>()?;
    let notify_url = form.get("notify_url").to_owned();
    let description = form.get("description").to_owned();
    let others = match old {
        Some(old) => Settings::clone(&old.settings),
        None => Settings::new(String::new(), Vec::new()),
    };
    Ok(SubscriptionWrite::of(Settings { notify_url, modules, description, config, plugin, ..others }))
}
