//! Workbench for plugin authors: the host's runtime without a store.
//!
//! # Guarantees
//! - `hookloom plugin check | run | test | bench | replay` find what the host would find.
//! - A busy or slow machine fails no call: the limits of CPU and wall time are the host's maxima here. What a call took is returned, and
//!   stands beside the limits of its subscription.

use super::bench_baseline;
use super::cache::{Cache, Code, CompiledComponent};
use super::chain::{self, ChainStep};
use super::judgement::{Judged, PluginFault, PluginInput};
use super::report::{Refusal, Report};
use super::runtime::Runtime;
use super::script;
use super::version::Version;
use super::{CompileError, CompileLimits, PluginConfig, PluginError};
use bytes::Bytes;
use hookloom_model::delivery::Arm;
use hookloom_model::limits::{COMPONENT_BYTES_MAX, Limits, STACK_BYTES};
use hookloom_model::subscription::{Subscription, TenantId};
use hookloom_store::vault::Vault;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Runtime for the commands of plugin authors.
pub struct Workbench {
    runtime: Runtime,
    /// Compiled code of earlier commands. None: the user has no cache folder.
    cache: Option<Cache>,
}

/// Maximum size of the cache of compiled code, in bytes.
const CACHE_BYTES_MAX: u64 = 1 << 30;

/// Plugin that is loaded into the workbench.
pub struct BenchPlugin {
    name: String,
    version: Arc<Version>,
}

impl Workbench {
    /// Starts the runtime with one plugin thread, the host's maximum limits, and this binary as the compiler.
    pub fn start() -> Result<Self, PluginError> {
        let config = PluginConfig {
            threads: 1,
            calls_per_tenant: 1,
            upload_slots: 1,
            restore_slots: 1,
            loaded_code_bytes_max: 0,
            stack_bytes: STACK_BYTES,
            resting_instances_max: 1,
            warm_memories_max: 16,
            limits_max: Limits::HOST_MAX,
            compiler: super::current_program()?,
            compile_limits: CompileLimits::USUAL,
            calls_file: PathBuf::new(),
            cache_folder: std::env::temp_dir(),
            cache_bytes_max: 0,
        };
        super::require_address_space(&config)?;
        let runtime = Runtime::start(&config, None)?;
        let cache = user_cache_folder().and_then(|folder| {
            // The key belongs to this user, in a file that only this user can read.
            std::fs::create_dir_all(&folder).ok()?;
            let key = Vault::open(&folder.join("cache.key")).ok()?.cache_key();
            Cache::open(&folder.join("compiled"), CACHE_BYTES_MAX, key, &runtime.engine).ok()
        });
        Ok(Workbench { runtime, cache })
    }

    /// Checks, compiles and probes a component, as an upload does.
    pub async fn load(&self, name: &str, component: Bytes) -> Result<(BenchPlugin, Report), PluginError> {
        if component.len() as u64 > COMPONENT_BYTES_MAX {
            let what = format!(
                "the component has {} bytes, and a host takes {COMPONENT_BYTES_MAX} by default",
                component.len()
            );
            let remedy = "make it smaller, or let the host's operator raise component_bytes_max";
            return Err(CompileError::from(Refusal::new("too-large", what, remedy)).into());
        }
        let sha256 = hex::encode(Sha256::digest(&component));
        let version = match script::source(&component) {
            Some(source) => {
                let engine = self.linked(script::engine_sha256(), script::engine()?).await?;
                let checked = self.runtime.check_script(&engine, source).await?;
                engine.with_script(&sha256, checked.report, source.into())
            }
            None => self.linked(&sha256, component).await?,
        };
        let report = version.report.clone();
        Ok((BenchPlugin { name: name.to_owned(), version: Arc::new(version) }, report))
    }

    /// Returns the linked code of a component, which is compiled unless an earlier command has done so.
    async fn linked(&self, sha256: &str, component: Bytes) -> Result<Version, PluginError> {
        let compiled = match self.cache.as_ref().and_then(|cache| cache.get(sha256)) {
            Some(kept) => kept,
            None => self.compile(sha256, component).await?,
        };
        match &compiled.code {
            Code::Component(code) => self.runtime.linker.link(sha256, &compiled.report, code),
            Code::Script(_) => {
                Err(std::io::Error::other("the cache holds a script under the name of a component").into())
            }
        }
    }

    async fn compile(&self, sha256: &str, component: Bytes) -> Result<CompiledComponent, PluginError> {
        let compiled = self.runtime.compile(&TenantId::default(), component).await?;
        if let Some(cache) = &self.cache {
            // Without a cached file, the next command compiles the component again.
            let _ = cache.put(sha256, &compiled);
        }
        Ok(compiled)
    }

    /// Judges an event with a loaded plugin, within the limits of the input's subscription, but for those of time.
    pub async fn judge(&self, plugin: &BenchPlugin, input: PluginInput) -> Judged {
        let step = plugin.step();
        let input = with_longest_times(input);
        let tenant = input.subscription.tenant.clone();
        let pool = self.runtime.pool.clone();
        let judge = move || chain::judge(&[step], &input, &pool).0;
        let judged = self.runtime.threads.run(&tenant, judge).await;
        judged.unwrap_or_else(|| Judged::fault(&plugin.name, None, PluginFault::Shortage))
    }

    /// Measures calls in fresh instances, without and with the host's additions: limits, WASI context, validation of the answer. Calls
    /// that fail are left out.
    pub async fn compare_with_baseline(
        &self,
        plugin: &BenchPlugin,
        input: PluginInput,
        calls: u32,
    ) -> [Vec<Duration>; 2] {
        let step = plugin.step();
        let input = with_longest_times(input);
        let tenant = input.subscription.tenant.clone();
        let compare = move || bench_baseline::compare(&step, &input, calls);
        self.runtime.threads.run(&tenant, compare).await.unwrap_or_default()
    }
}

impl BenchPlugin {
    fn step(&self) -> ChainStep {
        let plugin = self.name.clone();
        let version = self.version.clone();
        ChainStep { plugin, version, arm: Arm::Active, fallback: None, rollout: None }
    }
}

/// Raises the limits of time of a call to the host's maxima: authors run their tests beside compilers, which hold up a call and slow down
/// its thread.
fn with_longest_times(mut input: PluginInput) -> PluginInput {
    let mut subscription = Subscription::clone(&input.subscription);
    subscription.settings.change_calls(|_, limits, _| {
        limits.cpu_ms = Limits::HOST_MAX.cpu_ms;
        limits.wall_ms = Limits::HOST_MAX.wall_ms;
    });
    input.subscription = Arc::new(subscription);
    input
}

/// Returns the cache folder by the XDG base directory specification.
fn user_cache_folder() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    Some(named.or_else(home_cache_folder)?.join("hookloom"))
}

fn home_cache_folder() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))
}
