//! Trial of a script that is not stored.

use super::dry_run::DryEvents;
use super::{Access, Operations, Problem, ToManage};
use crate::limits::Limits;
use crate::plugin::{CompileError, PluginError, Shown, script};
use crate::subscription::CallSettings;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
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
        let events = DryEvents::read(self, access, &event, previous.as_deref(), received_at_ms)?;
        let settings = CallSettings { config, limits, ..CallSettings::default() };
        let (input, answer) = events.asked_with(access.tenant.clone(), settings);
        Ok(answer.shown(self.plugins.try_script(&stored, input).await?))
    }
}

/// Returns a script in the form in which it is stored.
pub(crate) fn stored_script(source: &[u8]) -> Result<Bytes, Problem> {
    Ok(script::stored(source).map_err(CompileError::from).map_err(PluginError::from)?)
}
