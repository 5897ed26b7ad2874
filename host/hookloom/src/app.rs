//! Host as a whole: starts in the order bind, open, serve, and stops in reverse. The only module that uses all others.
//!
//! Plugins are loaded and compiled, and their folder is watched, in the background, while events are accepted. Steps that can fail
//! for a reason outside of the data folder come before anything in the folder is created. The first admin key comes last, when
//! everything else runs.

use crate::api::{self, ApiState, PortalBrand, PortalBrandError, Shares, SignInThrottle};
use crate::config::Config;
use crate::cpu_pool::CpuPool;
use crate::deliver::traces::{Traces, TracesError};
use crate::deliver::{AttemptLimits, DeliveryLimits, Dispatcher, LaneBoard, QUEUE_BYTES};
use crate::mail::{MailError, Mailer};
use crate::operations::{Operations, sign_in_path};
use crate::plugin::watch::FolderWatch;
use crate::plugin::{self, CompileLimits, PluginConfig, PluginError, Plugins};
use crate::store::{
    Actor, AlertTerms, FolderLock, MASTER_KEY, SQLITE_FILE, Store, StoreError, StoreEvent, StoreLimits, TenantChange,
};
use crate::subscription::TenantId;
use crate::telemetry::Telemetry;
use crate::url_path::{PublicUrl, UrlPath};
use hookloom_egress::{ClientError, Clients};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// Reason why the host does not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Metrics were started before in this process.
    #[error("metrics do not start")]
    Telemetry(#[from] crate::telemetry::BuildError),
    /// The store could not be opened.
    #[error("the store does not open")]
    Store(#[from] StoreError),
    /// The host is to run on another database than the one in its data folder, which would never be delivered from.
    #[error(
        "the setting store names another database, but {} has a store in {SQLITE_FILE}: move it with hookloom move-store, or rename the file to begin without what it has",
        folder.display()
    )]
    NotMoved {
        /// Data folder.
        folder: PathBuf,
    },
    /// The plugin runtime could not be started.
    #[error("the plugin runtime does not start")]
    Plugins(#[from] PluginError),
    /// The HTTP client could not be created.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The exporter of traces could not be started.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The mail server cannot be used.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The logo of the portal cannot be used.
    #[error(transparent)]
    Portal(#[from] PortalBrandError),
    /// The address could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address that could not be bound.
        address: SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The path of this program, which the compile child needs, is unknown.
    #[error("the program that this process runs cannot be found in /proc")]
    Program(#[source] std::io::Error),
    /// The first admin key could not be shown, and was deleted.
    #[error(
        "the first admin key could not be shown, so none was kept; start again with an output that takes it, or give a key by HOOKLOOM_ADMIN_KEY"
    )]
    KeyNotShown(#[source] std::io::Error),
}

/// First admin key, which is shown once.
pub struct FirstKey {
    /// Text of the key.
    pub key: String,
    /// Path of a link that signs in to the pages once with the key.
    pub sign_in_path: UrlPath,
}

/// Maximum number of connections in the kernel's queue until they are accepted.
const BACKLOG: u32 = 1_024;

/// Maximum time in which a host that stops leaves the others.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

const LEAVES_LATE: &str = "the other hosts take over when the lease of this host ends";

/// A running host.
pub struct App {
    /// Address on which the host listens.
    pub address: SocketAddr,
    /// Address with which links to the host begin.
    pub link_base: PublicUrl,
    store: Arc<Store>,
    plugins: Arc<Plugins>,
    watch: FolderWatch,
    dispatcher: Dispatcher,
    /// Retention, deletions, clock changes, statistics and metrics.
    background: JoinSet<()>,
    server: JoinHandle<()>,
    stop_server: oneshot::Sender<()>,
    grace: Duration,
    _folder: Option<FolderLock>,
}

impl App {
    /// Starts a host. When it returns, requests are answered and deliveries continue.
    pub async fn start(mut config: Config, admin_key: Option<String>) -> Result<App, AppError> {
        let plugin_config = plugin_config(&config)?;
        check_memory(&plugin_config)?;
        let telemetry = Telemetry::start()?;
        let socket = bind(&mut config)?;
        let address = config.listen;
        let clients = Arc::new(Clients::new(config.address_policy(), &config.name_servers)?);
        let mailer = Mailer::new(&config)?;
        let portal = PortalBrand::new(&config)?;
        let traces = Traces::start(&config.otlp_endpoint)?;
        let OpenStore { store, events, folder } = open_store(&config).await?;
        prepare(&store, admin_key).await?;
        let plugins = Plugins::start(plugin_config, store.clone()).await?;
        let listener = socket.listen(BACKLOG).map_err(|source| AppError::Listen { address, source })?;
        let watch = watch_folder(&config, &plugins)?;
        let background = background(&store, &telemetry, &config, mailer);
        let lanes = LaneBoard::default();
        let limits = delivery_limits(&config);
        let plugins_too = plugins.clone();
        let lanes_too = lanes.clone();
        let dispatcher =
            Dispatcher::start(store.clone(), plugins_too, clients.clone(), events, lanes_too, traces.clone(), limits);
        let grace = Duration::from_secs(config.stop_grace_s);
        let settings = config.clone();
        let link_base = config.link_base();
        let operations = Arc::new(Operations {
            store: store.clone(),
            plugins: plugins.clone(),
            config,
            lanes,
            clients,
            cpu: CpuPool::new(cores()),
        });
        let router = api::router(Arc::new(ApiState {
            operations,
            telemetry,
            traces,
            shares: Arc::new(Shares::new(&settings)),
            sign_ins: SignInThrottle::default(),
            notes: api::Notes::default(),
            portal,
            proven: tokio::sync::Mutex::default(),
        }));
        let (stop_server, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(api::listen::listen(listener, router, settings, stopped));
        Ok(App {
            address,
            link_base,
            store,
            plugins,
            watch,
            dispatcher,
            background,
            server,
            stop_server,
            grace,
            _folder: folder,
        })
    }

    /// Creates the first admin key, if none was used or given, and shows it. Deletes a key that cannot be shown.
    pub async fn show_first_key(&self, show: impl FnOnce(&FirstKey) -> std::io::Result<()>) -> Result<(), AppError> {
        let Some((key, text)) = self.store.create_first_key().await? else { return Ok(()) };
        let token = self.store.create_sign_in_link(Actor::Host, key.clone()).await?;
        let first = FirstKey { key: text, sign_in_path: sign_in_path(&token) };
        if let Err(source) = show(&first) {
            self.store.revoke_key(Actor::Host, None, key.id).await?;
            return Err(AppError::KeyNotShown(source));
        }
        Ok(())
    }

    /// Stops: accepts no more connections, completes requests and attempts under way, all within the grace period.
    pub async fn stop(mut self) {
        // Waits for the compiler end: uploads are refused, and deliveries wait in the store.
        self.plugins.stop();
        let _ = self.stop_server.send(());
        let stopping = async {
            let _ = self.server.await;
            drop(self.watch);
            self.background.abort_all();
            tokio::join!(self.dispatcher.stop(self.grace), self.store.give_away());
            self.plugins.store_rollout_counts().await;
        };
        if tokio::time::timeout(self.grace, stopping).await.is_err() {
            tracing::warn!("stop_grace_s is over; unfinished attempts are repeated after the next start");
        }
        self.plugins.note_endless_calls();
        match tokio::time::timeout(LEAVE_TIME_MAX, self.store.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %hookloom_model::describe(&error), "{LEAVES_LATE}"),
            Err(_) => tracing::warn!("{LEAVES_LATE}"),
        }
    }

    /// Returns the maximum duration of a stop.
    pub fn grace(&self) -> Duration {
        self.grace
    }
}

/// Returns the number of cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

fn watch_folder(config: &Config, plugins: &Arc<Plugins>) -> Result<FolderWatch, AppError> {
    let folder = config.data_dir.join("plugins");
    let rescan = Duration::from_secs(config.plugins_rescan_s);
    let watch = FolderWatch::start(folder, plugins.clone(), config.component_bytes_max, rescan);
    Ok(watch.map_err(PluginError::Io)?)
}

/// Checks that plugins have the address space that they need, and reports that compiled code cannot be run.
fn check_memory(plugin_config: &PluginConfig) -> Result<(), AppError> {
    plugin::require_address_space(plugin_config).map_err(PluginError::from)?;
    if let Some(fault) = plugin::no_executable_memory() {
        tracing::error!("{fault}");
    }
    Ok(())
}

/// Starts the background tasks, which run until the host stops.
fn background(store: &Arc<Store>, telemetry: &Telemetry, config: &Config, mailer: Option<Mailer>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let retention = Duration::from_secs(config.retention_s);
    let pruning = store.clone();
    tasks.spawn(async move { pruning.run_retention(retention).await });
    let deletions = store.clone();
    tasks.spawn(async move { deletions.run_deletions().await });
    let first_use = store.clone();
    tasks.spawn(async move { first_use.watch_first_use().await });
    let upkeep = store.clone();
    tasks.spawn(async move { upkeep.run_upkeep().await });
    let sweeps = store.clone();
    tasks.spawn(async move { sweeps.run_sweeps().await });
    let fan_outs = store.clone();
    tasks.spawn(async move { fan_outs.run_fan_outs().await });
    let clock = store.clone();
    tasks.spawn(async move { clock.watch_clock().await });
    let statistics = store.clone();
    tasks.spawn(async move { statistics.flush_statistics().await });
    let alerts = store.clone();
    let terms = AlertTerms { link_base: config.link_base(), emails: mailer.is_some() };
    tasks.spawn(async move { alerts.run_alerts(terms).await });
    if let Some(mailer) = mailer {
        tasks.spawn(mailer.run(store.clone()));
    }
    tasks.spawn(telemetry.clone().keep_up());
    tasks
}

/// Open store with the channel of its events.
struct OpenStore {
    store: Arc<Store>,
    events: mpsc::UnboundedReceiver<StoreEvent>,
    /// Lock of the data folder, unless the store holds it.
    folder: Option<FolderLock>,
}

/// Opens the store: the database that the settings name, or SQLite in the data folder.
async fn open_store(config: &Config) -> Result<OpenStore, AppError> {
    let limits = store_limits(config);
    let Some(url) = config.store.postgres() else {
        let (store, events) = Store::open_with(&config.data_dir, limits)?;
        return Ok(OpenStore { store, events, folder: None });
    };
    // The master key, the compiled plugins and the record of calls belong to one host.
    let folder = FolderLock::take(&config.data_dir)?;
    if config.data_dir.join(SQLITE_FILE).exists() {
        return Err(AppError::NotMoved { folder: config.data_dir.clone() });
    }
    let (store, events) = Store::open_postgres(url, &config.data_dir.join(MASTER_KEY), limits).await?;
    Ok(OpenStore { store, events, folder: Some(folder) })
}

fn store_limits(config: &Config) -> StoreLimits {
    StoreLimits {
        request_deliveries_max: config.request_deliveries_max,
        query_time_max: Duration::from_millis(config.query_ms_max),
        share: config.into(),
        event_bytes_max: config.event_bytes_max,
        disk_reserve_bytes: config.disk_reserve_bytes,
    }
}

fn delivery_limits(config: &Config) -> DeliveryLimits {
    DeliveryLimits {
        attempts: AttemptLimits { host: config.attempts_max, tenant: config.attempts_per_tenant_max },
        retry_after_max: Duration::from_secs(config.retry_after_max_s),
        queue_bytes: QUEUE_BYTES,
    }
}

fn plugin_config(config: &Config) -> Result<PluginConfig, AppError> {
    let threads = if config.plugin_threads == 0 { cores() + 1 } else { config.plugin_threads };
    let all_but_one = (threads - 1).max(1);
    Ok(PluginConfig {
        threads,
        calls_per_tenant: if config.plugin_calls_per_tenant == 0 {
            all_but_one
        } else {
            config.plugin_calls_per_tenant
        },
        // One more than the number of cores, so that on two cores two compiling tenants leave a slot to a third one.
        upload_slots: cores() as u64 + 1,
        // The same number for restores: a start uses one less than the number of cores, and leaves two.
        restore_slots: cores() as u64 + 1,
        stack_bytes: config.plugin_stack_bytes,
        resting_instances_max: config.resting_instances_max,
        warm_memories_max: config.warm_memories_max,
        limits_max: config.limits_max(),
        compiler: plugin::current_program().map_err(AppError::Program)?,
        compile_limits: CompileLimits {
            cpu_s: config.compile_cpu_s,
            wall_s: config.compile_wall_s,
            memory_bytes: config.compile_memory_bytes,
            stack_bytes: config.plugin_stack_bytes,
        },
        calls_file: config.data_dir.join("calls"),
        cache_folder: config.data_dir.join("compiled"),
        cache_bytes_max: config.compiled_bytes_max,
        loaded_code_bytes_max: config.loaded_code_bytes_max,
    })
}

/// Creates the default tenant at the first start (not again, because an operator may have deleted it), and the given admin key.
async fn prepare(store: &Store, admin_key: Option<String>) -> Result<(), StoreError> {
    if store.catalog().tenants().is_empty() && store.catalog().keys(None).is_empty() {
        store.create_tenant(Actor::Host, TenantId::default(), TenantChange::default()).await?;
    }
    match admin_key {
        Some(key) => store.give_admin_key(&key).await,
        None => Ok(()),
    }
}

/// Binds the address without accepting connections yet. The settings get the real address, which the address guard needs, also if
/// the host was started with port 0.
fn bind(config: &mut Config) -> Result<TcpSocket, AppError> {
    let address = config.listen;
    let listen = |source| AppError::Listen { address, source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(listen)?;
    // A restart must not wait for connections of the previous host.
    socket.set_reuseaddr(true).map_err(listen)?;
    socket.bind(address).map_err(listen)?;
    config.listen = socket.local_addr().map_err(listen)?;
    Ok(socket)
}
