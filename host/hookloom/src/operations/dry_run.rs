//! Dry run: a plugin judges an event, and nothing is stored or sent.

use super::{Access, Operations, Problem, ToManage};
use crate::chain::{Chain, Step};
use crate::clock::now_ms;
use crate::event::{Event, EventId, read_envelope};
use crate::ids::{PluginName, VersionId};
use crate::limits::Limits;
use crate::plugin::{ConfigReads, Judged, PluginInput, Shown};
use crate::subscription::{CallSettings, Subscription, TenantId};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Event, plugin and settings of a call that sends nothing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DryRun {
    /// The event: `{eventName, eventData}`.
    #[schema(value_type = Object)]
    event: Box<RawValue>,
    /// Previous event of the same contact or deal, which the plugin reads through `history`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    previous: Option<Box<RawValue>>,
    /// Configuration that the plugin reads through `config`.
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// The sha256 of a version, if not the active one.
    #[serde(default)]
    version: Option<String>,
    /// Resource limits of the call.
    #[serde(default)]
    limits: Limits,
    /// Time at which the event was accepted, as the plugin's clock shows it. Absent: now.
    #[serde(default)]
    received_at_ms: Option<i64>,
}

impl DryRun {
    /// Returns a dry run with a configuration. Version None: the active one.
    pub(crate) fn of(event: Box<RawValue>, config: BTreeMap<String, String>, version: Option<String>) -> Self {
        DryRun { event, previous: None, config, version, limits: Limits::default(), received_at_ms: None }
    }
}

impl Operations {
    /// Judges an event with a version of a plugin. Nothing is stored and nothing is sent.
    pub(crate) async fn dry_run_plugin(
        &self,
        access: &Access<ToManage>,
        name: PluginName,
        dry_run: DryRun,
    ) -> Result<Shown, Problem> {
        if !self.plugins.exists(&access.tenant, &name) {
            return Err(Problem::not_found("plugin"));
        }
        let DryRun { event, previous, config, limits, received_at_ms, version } = dry_run;
        if let Err(detail) = limits.check(&self.plugins.limits_max(&access.tenant)) {
            return Err(Problem::field("/limits", detail));
        }
        let events = DryEvents::read(self, access, &event, previous.as_deref(), received_at_ms)?;
        let pin = version.map(|version| VersionId::parse(&version)).transpose();
        let step = Step { plugin: name, pin: pin.map_err(|detail| Problem::field("/version", detail))? };
        if !self.plugins.can_judge(&access.tenant, &step).await {
            return Err(Problem::not_found("version of the plugin"));
        }
        let settings = CallSettings { plugin: Chain(vec![step]), config, limits, ..CallSettings::default() };
        let (input, answer) = events.asked_with(access.tenant.clone(), settings);
        Ok(answer.shown(self.plugins.judge_with(input).await))
    }
}

/// Events of a call that stores nothing and sends nothing.
pub(super) struct DryEvents {
    event: Arc<Event>,
    previous: Option<Arc<Event>>,
}

/// Part of such a call that is needed to show its judgement.
pub(super) struct DryAnswer {
    event: Arc<Event>,
    subscription: Arc<Subscription>,
    reads: Arc<ConfigReads>,
}

impl DryEvents {
    /// Reads an event and its previous one. Time None: now.
    pub(super) fn read(
        operations: &Operations,
        access: &Access<ToManage>,
        event: &RawValue,
        previous: Option<&RawValue>,
        received_at_ms: Option<i64>,
    ) -> Result<Self, Problem> {
        let received_at_ms = received_at_ms.unwrap_or_else(now_ms);
        let event = Arc::new(dry_event(operations, access, event, received_at_ms)?);
        let previous = previous.map(|previous| dry_event(operations, access, previous, received_at_ms)).transpose()?;
        Ok(DryEvents { event, previous: previous.map(Arc::new) })
    }

    /// Returns the input of the call.
    pub(super) fn asked_with(self, tenant: TenantId, settings: CallSettings) -> (PluginInput, DryAnswer) {
        let DryEvents { event, previous } = self;
        let subscription = Arc::new(Subscription::passing(tenant, settings));
        let reads = Arc::new(ConfigReads::default());
        let asked = PluginInput::new(event.clone(), subscription.clone());
        let input = PluginInput { previous, config_reads: Some(reads.clone()), ..asked };
        (input, DryAnswer { event, subscription, reads })
    }
}

impl DryAnswer {
    /// Returns the judgement in readable form, with the config that was not read.
    pub(super) fn shown(self, judged: Judged) -> Shown {
        let shown = Shown::new(judged, &self.event);
        Shown { unread_config: self.reads.unread(&self.subscription.settings.config), ..shown }
    }
}

/// Returns an event that is not stored.
fn dry_event(
    operations: &Operations,
    access: &Access<ToManage>,
    event: &RawValue,
    received_at_ms: i64,
) -> Result<Event, Problem> {
    let envelope = read_envelope(&Bytes::copy_from_slice(event.get().as_bytes()))?;
    let module = operations.store.catalog().module_of(&access.tenant, &envelope.name);
    Ok(Event {
        id: EventId(uuid::Uuid::nil()),
        module: module.ok_or_else(|| {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown-event-name",
                format!("the event name {:?} is not accepted", envelope.name),
            )
        })?,
        name: envelope.name,
        entity_id: envelope.entity_id,
        received_at_ms,
        payload: envelope.payload,
    })
}
