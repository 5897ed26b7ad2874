//! Calls of versions: their code is brought into memory on the plugin thread that calls them.
//!
//! So a call that waits for its turn holds no code, and what all tenants' calls hold together is bounded by the number of
//! plugin threads. Reading code from disk takes a millisecond for each megabyte, in the tenant's own turn. Code that is not
//! on disk either is compiled before the call waits for its turn again.

use super::code::CodeLibrary;
use super::runtime::{Version, VersionRef};
use super::{PluginError, Plugins};
use crate::subscription::TenantId;
use std::sync::Arc;

/// How often a call waits for a compiler, before it is given up: code that is compiled may be gone from memory and disk
/// again before its turn comes.
const COMPILES_MAX: usize = 3;

/// Reasons why a call was not made.
pub(super) enum NotCalled {
    /// The host had no room for it.
    Shortage,
    /// The code of this version could not be loaded, which is logged, or it is quarantined.
    NotLoaded(Arc<str>),
}

/// Reasons why code is not at hand on a plugin thread.
enum LoadError {
    NotCompiled(Arc<str>),
    Unusable(Arc<str>, PluginError),
}

impl Plugins {
    /// Runs `work` with the code of these versions on a plugin thread, in the tenant's turn.
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
            let (code, wanted) = (self.code.clone(), versions.clone());
            let job = move || match load_all(&code, &wanted) {
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
    let load = |version: &VersionRef| match code.load(&version.sha256) {
        Ok(Some(loaded)) => Ok(loaded),
        Ok(None) => Err(LoadError::NotCompiled(version.sha256.clone())),
        Err(error) => Err(LoadError::Unusable(version.sha256.clone(), error)),
    };
    versions.iter().map(load).collect()
}
