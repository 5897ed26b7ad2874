//! Execution of work with the code of versions on a plugin thread.
//!
//! # Guarantees
//! - Code is loaded on the plugin thread that calls it, so a waiting call holds no code. The number of plugin threads bounds the code
//!   that all calls hold.
//! - Loading code from disk, about a millisecond for each megabyte, counts as time of the tenant's job.
//! - Code that is not on disk is compiled before the call waits for a plugin thread again.

use super::code::CodeLibrary;
use super::version::{Version, VersionRef};
use super::{PluginError, Plugins};
use hookloom_model::subscription::TenantId;
use std::sync::Arc;

/// Number of times that a call waits for a compiler before it fails. Compiled code may be evicted from memory and disk before the call
/// gets a plugin thread.
const COMPILES_MAX: usize = 3;

/// Reason why a call was not made.
pub(super) enum NotCalled {
    /// The host had no capacity.
    Shortage,
    /// The version is quarantined, or its code could not be loaded, which is logged.
    NotLoaded(Arc<str>),
}

/// Reason why code could not be loaded on a plugin thread.
enum LoadError {
    NotCompiled(Arc<str>),
    Unusable(Arc<str>, PluginError),
}

impl Plugins {
    /// Runs `work` with the code of these versions on a plugin thread, when the tenant's job is scheduled.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        versions: Vec<VersionRef>,
        mut work: impl FnOnce(Vec<Arc<Version>>) -> T + Send + 'static,
    ) -> Result<T, NotCalled> {
        if let Some(failed) = versions.iter().find(|version| self.failed_lately(&version.sha256)) {
            return Err(NotCalled::NotLoaded(failed.sha256.clone()));
        }
        if let Some(quarantined) = versions.iter().find(|version| self.quarantine(tenant, &version.sha256).is_some()) {
            return Err(NotCalled::NotLoaded(quarantined.sha256.clone()));
        }
        let versions: Arc<[VersionRef]> = versions.into();
        for _ in 0..COMPILES_MAX {
            let code = self.code.clone();
            let needed = versions.clone();
            let job = move || match load_all(&code, &needed) {
                Ok(loaded) => Ok(work(loaded)),
                Err(missing) => Err((missing, work)),
            };
            match self.runtime.threads.run(tenant, job).await {
                None => return Err(NotCalled::Shortage),
                Some(Ok(answer)) => return Ok(answer),
                Some(Err((LoadError::NotCompiled(sha256), not_begun))) => {
                    if self.compiled(tenant, &sha256).await.is_err() {
                        return Err(NotCalled::NotLoaded(sha256));
                    }
                    work = not_begun;
                }
                Some(Err((LoadError::Unusable(sha256, error), _))) => {
                    self.note_failure(tenant, &sha256, &error);
                    return Err(NotCalled::NotLoaded(sha256));
                }
            }
        }
        Err(NotCalled::Shortage)
    }
}

fn load_all(code: &CodeLibrary, versions: &[VersionRef]) -> Result<Vec<Arc<Version>>, LoadError> {
    versions.iter().map(|version| load(code, version)).collect()
}

fn load(code: &CodeLibrary, version: &VersionRef) -> Result<Arc<Version>, LoadError> {
    match code.load(&version.sha256) {
        Ok(Some(loaded)) => Ok(loaded),
        Ok(None) => Err(LoadError::NotCompiled(version.sha256.clone())),
        Err(error) => Err(LoadError::Unusable(version.sha256.clone(), error)),
    }
}
