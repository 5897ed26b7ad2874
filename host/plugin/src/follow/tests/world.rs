//! A host whose store is changed as another host changes it: nothing of this host is told.

use super::component::component;
use crate::check::ComponentKind;
use crate::compile::ChildReply;
use crate::engine::{EnginePurpose, engine};
use crate::report::ProbeOutcome;
use crate::{CompileLimits, Judged, PluginConfig, Plugins, check};
use bytes::Bytes;
use hookloom_model::clock::now_ms;
use hookloom_model::event::{Event, EventId, Module};
use hookloom_model::ids;
use hookloom_model::limits::{Limits, STACK_BYTES};
use hookloom_model::subscription::{CallSettings, Subscription, TenantId};
use hookloom_store::{Actor, PluginVersion, RolloutKind, Store, StoreEvent, StoredRollout, TenantChange};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use wasmtime::component::Component;

/// Program in the place of the compile child: answers with the file that has the sha256 of the component as its name.
const COMPILER: &str = r#"#!/bin/sh
folder="${0%/*}"
sum=$(sha256sum)
sum="${sum%% *}"
echo "$sum" >>"$folder/compiled"
[ -e "$folder/$sum" ] || exit 3
exec cat "$folder/$sum"
"#;

/// Text of a component that cannot be compiled.
pub(super) const BROKEN: &str = "broken";

pub(super) struct World {
    pub(super) plugins: Arc<Plugins>,
    pub(super) store: Arc<Store>,
    folder: TempDir,
    _store_events: UnboundedReceiver<StoreEvent>,
}

pub(super) fn tenant() -> TenantId {
    TenantId("t".into())
}

/// Returns the sha256 of the version with this text.
pub(super) fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(component(text)))
}

fn config(folder: &Path) -> PluginConfig {
    PluginConfig {
        threads: 2,
        calls_per_tenant: 2,
        upload_slots: 1,
        restore_slots: 3,
        stack_bytes: STACK_BYTES,
        resting_instances_max: 2,
        warm_memories_max: 2,
        limits_max: Limits::HOST_MAX,
        compiler: folder.join("compiler"),
        compile_limits: CompileLimits::USUAL,
        calls_file: folder.join("calls"),
        cache_folder: folder.join("cache"),
        cache_bytes_max: 1 << 30,
        loaded_code_bytes_max: 1 << 28,
    }
}

/// Writes the answer of the compile child for a component.
fn write_answer(folder: &Path, text: &str) {
    let component = component(text);
    let stack_bytes = usize::try_from(STACK_BYTES).expect("a size");
    let engine = engine(EnginePurpose::Compile { stack_bytes }).expect("an engine");
    let compiled = Component::from_binary(&engine, &component).expect("a component");
    let (report, _) = check::check_component(&engine, &compiled, ComponentKind::Plugin).expect("a plugin");
    let code = compiled.serialize().expect("code");
    let probe = json!({"verdict": "pass", "reason": null, "first_call_us": 1, "steady_call_us": 1, "memory_bytes": 1});
    let probed = ProbeOutcome::Done(serde_json::from_value(probe).expect("a probe"));
    let mut answer = serde_json::to_vec(&ChildReply::Compiled(Box::new(report), code.len() as u64)).expect("JSON");
    answer.push(b'\n');
    answer.extend(code);
    answer.extend(serde_json::to_vec(&probed).expect("JSON"));
    answer.push(b'\n');
    std::fs::write(folder.join(sha256(text)), answer).expect("written");
}

impl World {
    /// Starts a host with a tenant. Its compiler knows the versions `a` and `b`.
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let compiler = folder.path().join("compiler");
        std::fs::write(&compiler, COMPILER).expect("written");
        std::fs::set_permissions(&compiler, std::fs::Permissions::from_mode(0o700)).expect("executable");
        ["a", "b"].into_iter().for_each(|text| write_answer(folder.path(), text));
        let (store, store_events) = Store::open(folder.path()).expect("a store");
        for id in ["t", "u"] {
            let created = store.create_tenant(Actor::Host, TenantId(id.into()), TenantChange::default());
            created.await.expect("a tenant");
        }
        let plugins = Plugins::start(config(folder.path()), store.clone()).await.expect("started");
        World { plugins, store, folder, _store_events: store_events }
    }

    /// Activates a version of the plugin `p` as another host.
    pub(super) async fn activate_elsewhere(&self, tenant: &TenantId, text: &str) {
        let (version, component) = version(text);
        let activated = self.store.activate_plugin(Actor::Host, tenant.clone(), "p".into(), version, component, || ());
        activated.await.expect("active");
    }

    /// Adds a version of the plugin `p` as another host.
    pub(super) async fn add_elsewhere(&self, text: &str) {
        let (version, component) = version(text);
        let added = self.store.add_version(Actor::Host, tenant(), "p".into(), version, component);
        added.await.expect("added");
    }

    /// Begins a rollout as another host.
    pub(super) async fn begin_elsewhere(&self, rollout: &StoredRollout) {
        self.store.begin_rollout(Actor::Host, rollout.clone(), || ()).await.expect("begun");
    }

    pub(super) async fn follow(&self) {
        self.plugins.follow(&tenant()).await.expect("in force");
    }

    /// Judges a new event.
    pub(super) async fn judge(&self, tenant: &TenantId) -> Judged {
        let plugin = serde_json::from_value(json!("p")).expect("a chain");
        let subscription = Subscription::passing(tenant.clone(), CallSettings { plugin, ..CallSettings::default() });
        let event = Event {
            id: EventId(ids::new_uuid()),
            name: "Contact is Created".into(),
            module: Module::Contact,
            entity_id: None,
            received_at_ms: now_ms(),
            payload: Bytes::from_static(b"{}"),
        };
        self.plugins.judge(Arc::new(event), None, Arc::new(subscription)).await
    }

    /// Returns the version that judges a new event, and its verdict.
    pub(super) async fn judged_by(&self) -> (Option<String>, &'static str) {
        let judged = self.judge(&tenant()).await;
        (judged.steps[0].sha256.clone(), judged.judgement.verdict().as_str())
    }

    /// Returns the versions that were compiled, in order.
    pub(super) fn compiled(&self) -> Vec<String> {
        let lines = std::fs::read_to_string(self.folder.path().join("compiled")).unwrap_or_default();
        lines.lines().map(str::to_owned).collect()
    }
}

fn version(text: &str) -> (PluginVersion, Bytes) {
    let component = component(text);
    let version = PluginVersion {
        sha256: sha256(text),
        size: component.len() as u64,
        report: json!({"contract": "", "imports": [], "memories": 1, "memory_bytes": 1, "compiled_bytes": 1, "compile_ms": 1})
            .to_string(),
        created_at_ms: now_ms(),
        created_by: "another host".into(),
        active: false,
    };
    (version, component.into())
}

/// Returns a canary of the version `b` that began before every event.
pub(super) fn canary(percent: f64) -> StoredRollout {
    StoredRollout {
        tenant: tenant(),
        name: "p".into(),
        kind: RolloutKind::Canary,
        sha256: sha256("b"),
        percent,
        started_at_ms: 1,
        earlier: Vec::new(),
        ended_reason: None,
        counts: String::new(),
        counts_elsewhere: Vec::new(),
    }
}
