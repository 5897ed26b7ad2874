//! Trial of a script that is not stored: it judges one event, while its author writes it.
//!
//! # Guarantees
//! - As with every version, the compile child calls a script first ([`compile`](super::compile)), and only one that did not end the
//!   child is called here. The child's answer is remembered, so that another event needs no second child.
//! - A script that does not load is judged too: its fault has the position of the error.
//! - Nothing is stored: no version, and no file in the cache of compiled code.
//!
//! # Limits
//! One trial of a tenant runs at a time, and [`TRIALS_AT_ONCE`] in the host. Others wait. A trial whose caller is gone ends.

use super::chain::{self, ChainStep};
use super::compile::CompileError;
use super::judgement::{Judged, PluginFault, PluginInput};
use super::version::Version;
use super::{PluginError, Plugins, script};
use bytes::Bytes;
use hookloom_fair_share::FairSemaphore;
use hookloom_model::delivery::Arm;
use hookloom_model::subscription::TenantId;
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Maximum number of trials at once.
const TRIALS_AT_ONCE: u64 = 2;

/// Number of scripts of which the host remembers that the compile child called them.
const CHECKED_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("more than 0");

/// Name of the plugin in the record of a trial's call.
const UNNAMED: &str = "script";

/// Slots of trials, and the scripts that the compile child has called.
pub(super) struct Trials {
    slots: FairSemaphore<TenantId>,
    checked: Mutex<LruCache<String, ()>>,
}

impl Default for Trials {
    fn default() -> Self {
        Trials { slots: FairSemaphore::new(TRIALS_AT_ONCE, 1), checked: Mutex::new(LruCache::new(CHECKED_MAX)) }
    }
}

impl Plugins {
    /// Judges an event with a script in its stored form ([`script::stored`]).
    ///
    /// # Errors
    /// [`PluginError::Compile`] if the script ended the compile child or used more CPU time than its limit, or if the child failed.
    pub async fn try_script(&self, stored: &Bytes, input: PluginInput) -> Result<Judged, PluginError> {
        let tenant = input.subscription.tenant.clone();
        let trial = async {
            let _slot = self.trials.slots.acquire(&tenant, 1).await;
            self.judge_script(&tenant, stored, input).await
        };
        tokio::select! {
            judged = trial => judged,
            () = self.stopping.cancelled() => Err(PluginError::Stopping),
        }
    }

    async fn judge_script(&self, tenant: &TenantId, stored: &Bytes, input: PluginInput) -> Result<Judged, PluginError> {
        let source: Arc<str> = script::source(stored).unwrap_or_default().into();
        let sha256 = hex::encode(Sha256::digest(stored));
        self.check_quarantine(tenant, &sha256)?;
        let engine = self.script_engine(tenant).await?;
        self.check_once(&engine, &sha256, &source).await?;
        let version = Arc::new(engine.with_script(&sha256, engine.report.clone(), source));
        let plugin = UNNAMED.to_owned();
        let step = ChainStep { plugin, version, arm: Arm::Active, fallback: None, rollout: None };
        let pool = self.runtime.pool.clone();
        let judge = move || chain::judge(&[step], &input, &pool).0;
        let judged = self.runtime.threads.run(tenant, judge).await;
        Ok(judged.unwrap_or_else(|| Judged::fault(UNNAMED, Some(sha256), PluginFault::Shortage)))
    }

    /// Lets the compile child call a script, unless it has done so.
    async fn check_once(&self, engine: &Version, sha256: &str, source: &str) -> Result<(), PluginError> {
        if self.trials.checked.lock().get(sha256).is_some() || self.code.is_compiled(sha256) {
            return Ok(());
        }
        match self.runtime.check_script(engine, source).await {
            Ok(_) => {}
            Err(PluginError::Compile(CompileError::Refused(refusal))) if refusal.code == script::DOES_NOT_LOAD => {}
            Err(error) => return Err(error),
        }
        self.trials.checked.lock().put(sha256.to_owned(), ());
        Ok(())
    }
}
