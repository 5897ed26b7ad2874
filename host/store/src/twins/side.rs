//! One of the stores, with what a host keeps besides it: claims, earlier settings, cookies and links.

use super::names::TwinNames;
use super::operation::{TwinStep, TwinWhat};
use crate::backend::lanes::AttemptRecord;
use crate::memory::MemoryDisk;
use crate::postgres::test_server::TestDatabase;
use crate::{Actor, Caps, Due, Store, StoreError, StoreEvent, StoreLimits, TenantChange};
use hookloom_model::delivery::DueDelivery;
use hookloom_model::subscription::{Subscription, TenantId};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

/// Number of events of an operation that takes several steps.
pub(super) const BULK: usize = 600;

/// Names of the tenants.
pub(super) const TENANTS: [&str; 2] = ["t0", "t1"];

/// Operations that every case begins with: the second tenant has only the first of them.
const BEGINNING: [(TwinWhat, usize, usize); 6] = [
    (TwinWhat::Subscribe, 2, 0),
    (TwinWhat::Upload, 0, 0),
    (TwinWhat::Subscribe, 1, 4),
    (TwinWhat::CreateBin, 0, 0),
    (TwinWhat::CreateKey, 0, 0),
    (TwinWhat::CreateToken, 0, 0),
];

/// Place where a store survives a restart.
enum TwinDisk {
    Folder(TempDir),
    Memory(MemoryDisk),
    Database(TestDatabase),
}

impl TwinDisk {
    async fn open(&self, share: Caps) -> (Arc<Store>, UnboundedReceiver<StoreEvent>) {
        let limits = StoreLimits { share, ..StoreLimits::default() };
        let opened = match self {
            TwinDisk::Folder(folder) => Store::open_with(Path::new(folder.path()), limits),
            TwinDisk::Memory(disk) => Store::open_in_memory(disk.clone(), limits, None),
            TwinDisk::Database(database) => Store::open_postgres(&database.url(), &database.master_key(), limits).await,
        };
        opened.expect("a store")
    }
}

/// One store of several.
pub(super) struct TwinSide {
    disk: TwinDisk,
    pub(super) share: Caps,
    running: Option<(Arc<Store>, UnboundedReceiver<StoreEvent>)>,
    pub(super) names: TwinNames,
    /// Claims, in the order in which they were made.
    pub(super) held: Vec<Due>,
    /// Recorded attempts, which may be recorded again.
    pub(super) recorded: Vec<(DueDelivery, Arc<AttemptRecord>)>,
    /// Subscriptions as they were before an edit.
    pub(super) earlier: Vec<Arc<Subscription>>,
    pub(super) cookies: Vec<String>,
    pub(super) links: Vec<String>,
    pub(super) portal_links: Vec<String>,
    pub(super) portal_cookies: Vec<String>,
    /// True after the lease of this host ended: the machine was too busy to renew it.
    pub(super) lost_its_lease: bool,
}

impl TwinSide {
    pub(super) async fn on_sqlite(share: Caps) -> Self {
        TwinSide::on(TwinDisk::Folder(tempfile::tempdir().expect("a folder")), share).await
    }

    pub(super) async fn in_memory(share: Caps) -> Self {
        TwinSide::on(TwinDisk::Memory(MemoryDisk::default()), share).await
    }

    pub(super) async fn on_postgres(share: Caps) -> Self {
        TwinSide::on(TwinDisk::Database(TestDatabase::new().await), share).await
    }

    /// Opens the store, and makes the tenants with their first things.
    async fn on(disk: TwinDisk, share: Caps) -> Self {
        let running = Some(disk.open(share).await);
        let mut side = TwinSide {
            disk,
            share,
            running,
            names: TwinNames::default(),
            held: Vec::new(),
            recorded: Vec::new(),
            earlier: Vec::new(),
            cookies: Vec::new(),
            links: Vec::new(),
            portal_links: Vec::new(),
            portal_cookies: Vec::new(),
            lost_its_lease: false,
        };
        for (tenant, name) in TENANTS.iter().enumerate() {
            let id = TenantId((*name).into());
            side.store().create_tenant(actor(), id, TenantChange::default()).await.expect("a tenant");
            for (what, pick, more) in BEGINNING {
                let step = TwinStep { tenant: u8::try_from(tenant).unwrap_or(0), what, pick, more };
                side.act(&step).await;
                if tenant > 0 {
                    break;
                }
            }
        }
        side.published();
        side
    }

    pub(super) fn store(&self) -> Arc<Store> {
        self.running.as_ref().expect("it runs").0.clone()
    }

    /// Closes the store and opens it again. Claims end, because their host has ended.
    pub(super) async fn restart(&mut self) {
        self.held.clear();
        self.running = None;
        self.running = Some(self.disk.open(self.share).await);
    }

    /// Returns a subscription of a tenant, and keeps it as it is now.
    pub(super) fn subscription(&mut self, tenant: &TenantId, pick: usize) -> Option<Arc<Subscription>> {
        let all = self.store().catalog().subscriptions(tenant);
        let found = all.get(pick % all.len().max(1)).cloned()?;
        self.earlier.push(found.clone());
        Some(found)
    }

    /// Runs an operation, and returns its answer with names.
    pub(super) async fn act(&mut self, step: &TwinStep) -> String {
        let answer = self.answer(step).await;
        self.names.named(&answer)
    }

    async fn answer(&mut self, step: &TwinStep) -> String {
        if let Some(answer) = self.deliver(step).await {
            return answer;
        }
        if let Some(answer) = self.operate(step).await {
            return answer;
        }
        if let Some(answer) = self.subscribe(step).await {
            return answer;
        }
        if let Some(answer) = self.change_plugin(step).await {
            return answer;
        }
        if let Some(answer) = self.inspect(step).await {
            return answer;
        }
        if let Some(answer) = self.sign_in(step).await {
            return answer;
        }
        if let Some(answer) = self.visit(step).await {
            return answer;
        }
        self.look_after(step).await
    }

    /// Returns the events that the store has published since the last call. The claims are kept.
    pub(super) fn published(&mut self) -> String {
        let mut due = Vec::new();
        let mut later = Vec::new();
        let mut changed = Vec::new();
        while let Ok(event) = self.running.as_mut().expect("it runs").1.try_recv() {
            match event {
                StoreEvent::Accepted(new) => {
                    due.extend(new.due);
                    later.extend(new.later);
                }
                StoreEvent::Changed(id) => changed.push(id),
                StoreEvent::OwnershipChanged => self.lost_its_lease = true,
            }
        }
        due.sort_by_key(|one| one.delivery().id);
        later.sort();
        changed.sort();
        let answer = format!("{:?} later {later:?} changed {changed:?}", shown(&due));
        self.held.extend(due);
        self.names.named(&answer)
    }
}

/// Author of the operations.
pub(super) fn actor() -> Actor {
    Actor::Key("test (hlk_1234…)".to_owned())
}

/// Returns claimed deliveries with their events, as data.
pub(super) fn shown(due: &[Due]) -> Vec<String> {
    due.iter().map(|one| format!("{:?} {:?}", one.delivery(), one.event)).collect()
}

/// Returns an answer as text. Sizes in bytes are left out.
pub(super) fn told<T: Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(StoreError::TenantFull(usage)) => format!("full with {} of {} events", usage.events, usage.events_max),
        Err(error) => format!("{error:?}: {error}"),
    }
}
