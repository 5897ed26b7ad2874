//! Compilation on demand, and restoration of compiled code in the background after a start.
//!
//! # Guarantees
//! - A component is compiled once, however many callers need it at the same time.
//! - A start does not wait for the compiler. Deliveries whose plugin must be compiled wait in their lane ([`Plugins::missing_code`]),
//!   hold no resources and use up no attempt; all others continue.
//! - Compilation after a start uses no slot of uploads.
//! - A stop does not wait for the compiler either: waiting callers get [`PluginError::Stopping`], and the child is killed.

use super::cache::CompiledComponent;
use super::script;
use super::version::{Version, VersionRef};
use super::{PluginError, Plugins};
use bytes::Bytes;
use hookloom_fair_share::FairSemaphore;
use hookloom_model::clock;
use hookloom_model::subscription::{Subscription, TenantId};
use hookloom_store::StoreError;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

/// Time for which a version that could not be loaded is not loaded again.
const FAILURE_LASTS: Duration = Duration::from_secs(60);

/// Compile slots that the restoration leaves to deliveries that wait for their plugin: two, so that one tenant leaves a slot to another.
const SLOTS_OF_DELIVERIES: u64 = 2;

/// sha256 of a version, with one of its tenants.
type NeededVersion = (TenantId, Arc<str>);

impl Plugins {
    /// Returns the versions whose code deliveries may need: active, in a rollout, or pinned. Each once.
    pub(super) fn needed_versions(&self) -> Vec<NeededVersion> {
        let active = self.active.read();
        let rollouts = self.rollouts.read();
        let of_active = active.iter().map(|((tenant, _), version)| (version.sha256.clone(), tenant.clone()));
        let of_rollouts =
            rollouts.iter().map(|((tenant, _), rollout)| (rollout.version.sha256.clone(), tenant.clone()));
        let mut needed: BTreeMap<Arc<str>, TenantId> = of_rollouts.chain(of_active).collect();
        for subscription in self.store.catalog().all_subscriptions() {
            let pins = subscription.settings.plugin.0.iter().filter_map(|step| step.pin.as_deref());
            needed.extend(pins.map(|pin| (pin.into(), subscription.tenant.clone())));
        }
        needed.into_iter().map(|(sha256, tenant)| (tenant, sha256)).collect()
    }

    /// Restores code after a start: loads it from disk while memory is free, and compiles code that is not on disk.
    pub(super) async fn restore(self: Arc<Self>, needed: Vec<NeededVersion>) {
        let begun = clock::instant();
        let all = needed.len();
        let mut missing = Vec::new();
        for (tenant, sha256) in needed {
            if self.stopping.is_cancelled() {
                return;
            }
            if self.code.has_room_for(&sha256) {
                // An error is reported when the code is needed.
                let _ = self.load(&sha256).await;
            }
            if self.code.is_compiled(&sha256) {
                self.restored();
            } else {
                missing.push((tenant, sha256));
            }
        }
        let ms = clock::since(begun).as_millis();
        let to_compile = missing.len();
        tracing::info!(versions = all, to_compile, ms, "checked the cache of compiled plugins");
        let mut compiling = JoinSet::new();
        let slots = self.runtime.restore_slots.capacity().saturating_sub(SLOTS_OF_DELIVERIES);
        let at_once = usize::try_from(slots).unwrap_or(1).max(1);
        for (done, (tenant, sha256)) in missing.into_iter().enumerate() {
            if compiling.len() >= at_once {
                compiling.join_next().await;
                tracing::info!(done, to_compile, "compiling plugins again; their deliveries wait");
            }
            let plugins = self.clone();
            compiling.spawn(async move {
                // Failures are logged where they are noted.
                let _ = plugins.compiled(&tenant, &sha256).await;
                plugins.restored();
            });
        }
        compiling.join_all().await;
        if to_compile > 0 && !self.stopping.is_cancelled() {
            tracing::info!(
                to_compile,
                s = clock::since(begun).as_secs(),
                "plugins that had to be compiled again are ready"
            );
        }
    }

    fn restored(&self) {
        self.restoring.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the number of versions whose code is not restored yet since the start.
    pub fn restoring(&self) -> usize {
        self.restoring.load(Ordering::Relaxed)
    }

    /// Returns the code that must be compiled before a delivery of a subscription can be attempted. Empty: an attempt may begin; it
    /// reports a version that failed lately.
    pub fn missing_code(&self, subscription: &Subscription) -> Vec<Arc<str>> {
        let steps = subscription.settings.plugin.0.iter();
        let named = steps.flat_map(|step| match &step.pin {
            Some(pin) => [Some(pin.as_str().into()), None],
            None => {
                let rollout = self.rollout(&subscription.tenant, &step.plugin);
                let active = self.current(&subscription.tenant, &step.plugin);
                [active.map(|active| active.sha256), rollout.map(|rollout| rollout.version.sha256.clone())]
            }
        });
        named.flatten().filter(|sha256| !self.code.is_compiled(sha256) && !self.failed_lately(sha256)).collect()
    }

    /// Compiles missing code, each component once. Failures are logged, and remembered for [`FAILURE_LASTS`].
    pub async fn compile_missing(&self, tenant: &TenantId, missing: &[Arc<str>]) {
        for sha256 in missing {
            let _ = self.compiled(tenant, sha256).await;
        }
    }

    /// Returns the code of a stored version, and compiles it if necessary.
    pub(super) async fn compiled(&self, tenant: &TenantId, sha256: &str) -> Result<Arc<Version>, PluginError> {
        let component = async { Ok(self.store.component(sha256.to_owned()).await?) };
        let compiled = match self.load(sha256).await {
            Ok(Some(version)) => Ok(version),
            Ok(None) => self.compile_once(&self.runtime.restore_slots, tenant, sha256, component).await,
            Err(error) => Err(error),
        };
        match &compiled {
            Ok(_) => self.forget_failure(sha256),
            Err(error) => self.note_failure(tenant, sha256, error),
        }
        compiled
    }

    /// Returns the version of a component, and compiles it unless an identical component is compiled already.
    pub(super) async fn version_of(&self, tenant: &TenantId, component: Bytes) -> Result<Arc<Version>, PluginError> {
        let hashed = component.clone();
        let sha256 = blocking(move || hex::encode(Sha256::digest(&hashed))).await?;
        let version = match self.load(&sha256).await? {
            Some(version) => version,
            None => {
                let component = async { Ok(component) };
                self.compile_once(&self.runtime.upload_slots, tenant, &sha256, component).await?
            }
        };
        self.forget_failure(&sha256);
        Ok(version)
    }

    async fn compile_once(
        &self,
        slots: &FairSemaphore<TenantId>,
        tenant: &TenantId,
        sha256: &str,
        component: impl Future<Output = Result<Bytes, PluginError>>,
    ) -> Result<Arc<Version>, PluginError> {
        let compile = async {
            // The slot comes first, so that the compilation that others wait for is never waiting for a slot.
            let _slot = slots.acquire(tenant, 1).await;
            let lock = self.compiling_once.of(&sha256.to_owned());
            let _one_at_a_time = lock.lock().await;
            if let Some(version) = self.load(sha256).await? {
                return Ok(version);
            }
            let component = component.await?;
            let compiled = match script::source(&component) {
                Some(source) => self.runtime.check_script(&*self.script_engine(tenant).await?, source).await?,
                None => self.runtime.compile(tenant, component).await?,
            };
            self.keep(sha256, compiled).await
        };
        tokio::select! {
            compiled = compile => compiled,
            () = self.stopping.cancelled() => Err(PluginError::Stopping),
        }
    }

    /// Returns the engine for scripts, and compiles it if necessary: once for all scripts.
    pub(super) async fn script_engine(&self, tenant: &TenantId) -> Result<Arc<Version>, PluginError> {
        let sha256 = script::engine_sha256();
        let lock = self.compiling_once.of(&sha256.to_owned());
        let _one_at_a_time = lock.lock().await;
        if let Some(engine) = self.load(sha256).await? {
            return Ok(engine);
        }
        let compiled = self.runtime.compile(tenant, blocking(script::engine).await??).await?;
        self.keep(sha256, compiled).await
    }

    async fn load(&self, sha256: &str) -> Result<Option<Arc<Version>>, PluginError> {
        let code = self.code.clone();
        let sha256 = sha256.to_owned();
        blocking(move || code.load(&sha256)).await?
    }

    async fn keep(&self, sha256: &str, compiled: CompiledComponent) -> Result<Arc<Version>, PluginError> {
        let code = self.code.clone();
        let sha256 = sha256.to_owned();
        blocking(move || code.keep(&sha256, &compiled)).await?
    }

    /// Returns a version of a tenant's plugin.
    pub(super) async fn version(&self, tenant: &TenantId, name: &str, sha256: &str) -> Result<VersionRef, PluginError> {
        if let Some(active) = self.current(tenant, name).filter(|active| *active.sha256 == *sha256) {
            return Ok(active);
        }
        let key = ((tenant.clone(), name.to_owned()), sha256.to_owned());
        if let Some(version) = self.known().get(&key) {
            return Ok(version.clone());
        }
        let report = self.store.version_report(tenant.clone(), name.to_owned(), sha256.to_owned()).await?;
        let report = report.ok_or(StoreError::NotFound("version of the plugin"))?;
        let version = VersionRef::new(sha256, &report);
        self.known().put(key, version.clone());
        Ok(version)
    }

    /// Returns the number of active versions that could not be loaded lately or are quarantined. Their deliveries wait.
    pub fn out_of_service(&self) -> usize {
        let active = self.active.read();
        let is_out = |(tenant, _): &(TenantId, String), sha256: &str| {
            self.failed_lately(sha256) || self.quarantine(tenant, sha256).is_some()
        };
        active.iter().filter(|(key, version)| is_out(key, &version.sha256)).count()
    }

    pub(super) fn failed_lately(&self, sha256: &str) -> bool {
        let failed = self.failed.read();
        failed.get(sha256).is_some_and(|failed| clock::since(*failed) < FAILURE_LASTS)
    }

    fn forget_failure(&self, sha256: &str) {
        let any = !self.failed.read().is_empty();
        if any {
            self.failed.write().remove(sha256);
        }
    }

    /// Remembers and logs that a version could not be loaded. A stop of the host is not a failure.
    pub(super) fn note_failure(&self, tenant: &TenantId, sha256: &str, error: &PluginError) {
        if matches!(error, PluginError::Stopping) {
            return;
        }
        let mut failed = self.failed.write();
        failed.retain(|_, failed| clock::since(*failed) < FAILURE_LASTS);
        failed.insert(sha256.to_owned(), clock::instant());
        drop(failed);
        tracing::error!(%tenant, %sha256, error = %hookloom_model::describe(error), "a version could not be loaded; its deliveries wait");
    }
}

/// Runs work that keeps a core or disk busy for milliseconds on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PluginError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?)
}
