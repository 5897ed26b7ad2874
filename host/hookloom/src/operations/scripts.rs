//! Trial of a script that is not stored.

use super::dry_run::dry_event;
use super::{Access, Operations, Problem, ToManage};
use crate::clock::now_ms;
use crate::limits::Limits;
use crate::plugin::{CompileError, ConfigReads, PluginError, PluginInput, Shown, script};
use crate::subscription::{CallSettings, Subscription};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Script, event and settings of a call that stores nothing and sends nothing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScriptTrial {
    /// Source of the script: an ES module with a function `transform`.
    #[schema(max_length = 1_048_576)]
    source: String,
    /// The event: `{eventName, eventData}`.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
    /// Previous event of the same contact or deal, which the script reads through `history`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    previous: Option<Box<RawValue>>,
    /// Configuration that the script reads through `config`.
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// Resource limits of the call.
    #[serde(default)]
    limits: Limits,
    /// Time at which the event was accepted, as the script's clock shows it. Absent: now.
    #[serde(default)]
    received_at_ms: Option<i64>,
}

impl ScriptTrial {
    /// Returns a trial with the default limits.
    pub(crate) fn of(
        source: String,
        event: Box<RawValue>,
        previous: Option<Box<RawValue>>,
        config: BTreeMap<String, String>,
    ) -> Self {
        ScriptTrial { source, event, previous, config, limits: Limits::default(), received_at_ms: None }
    }
}

impl Operations {
    /// Judges an event with a script that is not stored. Nothing is stored and nothing is sent.
    pub(crate) async fn try_script(&self, access: &Access<ToManage>, trial: ScriptTrial) -> Result<Shown, Problem> {
        let ScriptTrial { source, event, previous, config, limits, received_at_ms } = trial;
        if let Err(detail) = limits.check(&self.plugins.limits_max(&access.tenant)) {
            return Err(Problem::field("/limits", detail));
        }
        let stored = stored_script(source.as_bytes())?;
        let received_at_ms = received_at_ms.unwrap_or_else(now_ms);
        let event = Arc::new(dry_event(self, access, &event, received_at_ms)?);
        let previous = previous.map(|previous| dry_event(self, access, &previous, received_at_ms)).transpose()?;
        let settings = CallSettings { config, limits, ..CallSettings::default() };
        let subscription = Arc::new(Subscription::passing(access.tenant.clone(), settings));
        let reads = Arc::new(ConfigReads::default());
        let asked = PluginInput::new(event.clone(), subscription.clone());
        let input = PluginInput { previous: previous.map(Arc::new), config_reads: Some(reads.clone()), ..asked };
        let shown = Shown::new(self.plugins.try_script(&stored, input).await?, &event);
        Ok(Shown { unread_config: reads.unread(&subscription.settings.config), ..shown })
    }
}

/// Returns a script in the form in which it is stored.
pub(crate) fn stored_script(source: &[u8]) -> Result<Bytes, Problem> {
    Ok(script::stored(source).map_err(CompileError::from).map_err(PluginError::from)?)
}
