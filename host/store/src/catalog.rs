//! Catalog: tenants, keys, tokens, sessions and subscriptions in memory, because every request needs them.
//!
//! Only the backend changes the catalog, after a commit and before the next one. Reads never wait for the disk. The catalog holds no
//! events and no deliveries.
//!
//! # Matching
//! [`Catalog::receivers`] says who receives a tenant's events, with the generation of that answer. A backend that is about to commit
//! compares the generation with the present one ([`Catalog::is_current`]) and refuses an answer that is no longer true. So matching
//! needs no lock, and no delivery is made for a subscription that was disabled before the event.

use crate::StoreError;
use hookloom_model::access::{ApiKey, IntakeToken, Session};
use hookloom_model::chain::Step;
use hookloom_model::clock::now_ms;
use hookloom_model::event::{Module, VENDOR_EVENT_NAMES};
use hookloom_model::subscription::{Subscription, SubscriptionId, Tenant, TenantId};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::Notify;
use uuid::Uuid;

/// Tenants, keys, intake tokens and subscriptions.
#[derive(Default)]
pub struct Catalog {
    tables: RwLock<Tables>,
    /// Times of last use by key that are not in the database yet, in milliseconds since the epoch.
    used: Mutex<HashMap<Uuid, i64>>,
    /// Notified when a key is used.
    key_used: Notify,
}

#[derive(Default)]
struct Tables {
    tenants: BTreeMap<TenantId, TenantShelf>,
    subscriptions: HashMap<SubscriptionId, Arc<Subscription>>,
    keys: HashMap<[u8; 32], Arc<ApiKey>>,
    tokens: HashMap<[u8; 32], Arc<IntakeToken>>,
    sessions: HashMap<[u8; 32], Arc<Session>>,
    /// Number of the last generation of any tenant.
    generation: u64,
}

impl Tables {
    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
}

/// Subscriptions in the order of their ids, which is the order of creation.
type List = Arc<Vec<Arc<Subscription>>>;

/// Receivers of a tenant's events by module, as of one generation of the catalog.
#[derive(Clone, Debug)]
pub struct Receivers {
    /// Generation of the tenant's subscriptions. 0: the tenant does not exist.
    generation: u64,
    modules: [ModuleReceivers; Module::ALL.len()],
}

impl Receivers {
    /// Returns the subscriptions that receive events of a module, in the order of their ids. Their event names and filters may refuse
    /// some of them.
    pub fn of(&self, module: Module) -> &[Arc<Subscription>] {
        &self.modules[module as usize].subscriptions
    }

    /// Returns the same list, shared.
    pub(crate) fn list(&self, module: Module) -> Arc<Vec<Arc<Subscription>>> {
        self.modules[module as usize].subscriptions.clone()
    }

    /// Returns true if one of these subscriptions has event names or a filter.
    pub(crate) fn is_selective(&self, module: Module) -> bool {
        self.modules[module as usize].selective > 0
    }
}

/// Subscriptions that receive events of a module.
#[derive(Clone, Debug, Default)]
struct ModuleReceivers {
    subscriptions: List,
    /// Number of those with event names or a filter.
    selective: usize,
}

impl ModuleReceivers {
    fn put(&mut self, subscription: Arc<Subscription>) {
        self.selective += usize::from(subscription.settings.is_selective());
        if let Some(former) = put(&mut self.subscriptions, subscription) {
            self.selective -= usize::from(former.settings.is_selective());
        }
    }

    fn take_out(&mut self, id: SubscriptionId) {
        if let Some(former) = take_out(&mut self.subscriptions, id) {
            self.selective -= usize::from(former.settings.is_selective());
        }
    }
}

struct TenantShelf {
    tenant: Arc<Tenant>,
    /// Number that is new whenever one of the subscriptions changes.
    generation: u64,
    subscriptions: List,
    /// Subscriptions of each module, so that an event does not look at the others.
    modules: [ModuleReceivers; Module::ALL.len()],
}

/// Adds a subscription to a list, or replaces the one with its id, which is returned.
fn put(list: &mut List, subscription: Arc<Subscription>) -> Option<Arc<Subscription>> {
    let list = Arc::make_mut(list);
    match list.binary_search_by_key(&subscription.id, |other| other.id) {
        Ok(at) => Some(std::mem::replace(&mut list[at], subscription)),
        Err(at) => {
            list.insert(at, subscription);
            None
        }
    }
}

/// Removes a subscription from a list, and returns it.
fn take_out(list: &mut List, id: SubscriptionId) -> Option<Arc<Subscription>> {
    let at = list.binary_search_by_key(&id, |other| other.id).ok()?;
    Some(Arc::make_mut(list).remove(at))
}

impl Catalog {
    /// Returns a tenant.
    pub fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.read().tenants.get(id).map(|records| records.tenant.clone())
    }

    /// Returns all tenants, by id.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.read().tenants.values().map(|records| records.tenant.clone()).collect()
    }

    /// Returns the key with this hash.
    pub fn key(&self, hash: &[u8; 32]) -> Option<Arc<ApiKey>> {
        self.read().keys.get(hash).cloned()
    }

    /// Returns the key with this id.
    pub fn key_by_id(&self, id: Uuid) -> Option<Arc<ApiKey>> {
        self.read().keys.values().find(|key| key.id == id).cloned()
    }

    /// Returns the session of a cookie and the key that opened it, unless the session has ended.
    pub fn session(&self, hash: &[u8; 32]) -> Option<(Arc<Session>, Arc<ApiKey>)> {
        let session = self.read().sessions.get(hash).cloned().filter(|session| session.expires_at_ms > now_ms())?;
        let key = self.key_by_id(session.key)?;
        Some((session, key))
    }

    /// Records that a key is used now.
    pub fn note_used(&self, key: Uuid) {
        self.used.lock().insert(key, now_ms());
        self.key_used.notify_one();
    }

    /// Waits until a key is used.
    pub(crate) async fn key_use(&self) {
        self.key_used.notified().await;
    }

    /// Takes the times of last use, by key, since the previous call.
    pub(crate) fn take_used(&self) -> HashMap<Uuid, i64> {
        std::mem::take(&mut *self.used.lock())
    }

    /// Returns the time of last use of a key, if it is not in the database yet.
    pub(crate) fn used_at_ms(&self, key: Uuid) -> Option<i64> {
        self.used.lock().get(&key).copied()
    }

    pub(crate) fn put_session(&self, hash: [u8; 32], session: Session) {
        let mut tables = self.write();
        let now_ms = now_ms();
        tables.sessions.retain(|_, other| other.expires_at_ms > now_ms);
        tables.sessions.insert(hash, Arc::new(session));
    }

    pub(crate) fn remove_session(&self, hash: &[u8; 32]) {
        self.write().sessions.remove(hash);
    }

    /// Returns a tenant's keys, oldest first. None: the admin keys.
    pub fn keys(&self, tenant: Option<&TenantId>) -> Vec<Arc<ApiKey>> {
        let mut keys: Vec<_> = self.read().keys.values().filter(|key| key.tenant.as_ref() == tenant).cloned().collect();
        keys.sort_by_key(|key| key.id);
        keys
    }

    /// Returns the intake token with this hash.
    pub fn token(&self, hash: &[u8; 32]) -> Option<Arc<IntakeToken>> {
        self.read().tokens.get(hash).cloned()
    }

    /// Returns a tenant's intake tokens, oldest first.
    pub fn tokens(&self, tenant: &TenantId) -> Vec<Arc<IntakeToken>> {
        let mut tokens: Vec<_> = self.read().tokens.values().filter(|token| token.tenant == *tenant).cloned().collect();
        tokens.sort_by_key(|token| token.id);
        tokens
    }

    /// Returns a subscription of a tenant.
    pub fn subscription(&self, tenant: &TenantId, id: SubscriptionId) -> Option<Arc<Subscription>> {
        self.read().subscriptions.get(&id).filter(|found| found.tenant == *tenant).cloned()
    }

    /// Returns a subscription of any tenant, for the host itself.
    pub fn subscription_by_id(&self, id: SubscriptionId) -> Option<Arc<Subscription>> {
        self.read().subscriptions.get(&id).cloned()
    }

    /// Returns a tenant's subscriptions, oldest first.
    pub fn subscriptions(&self, tenant: &TenantId) -> List {
        self.read().tenants.get(tenant).map(|records| records.subscriptions.clone()).unwrap_or_default()
    }

    /// Returns the receivers of a tenant's events.
    pub fn receivers(&self, tenant: &TenantId) -> Receivers {
        match self.read().tenants.get(tenant) {
            None => Receivers { generation: 0, modules: Default::default() },
            Some(records) => Receivers { generation: records.generation, modules: records.modules.clone() },
        }
    }

    /// Returns true if these are still the receivers of the tenant's events.
    pub(crate) fn is_current(&self, tenant: &TenantId, receivers: &Receivers) -> bool {
        self.read().tenants.get(tenant).map_or(0, |records| records.generation) == receivers.generation
    }

    /// Returns a tenant's subscriptions that use a plugin.
    pub(crate) fn users_of(&self, tenant: &TenantId, plugin: &str) -> Vec<SubscriptionId> {
        let subscriptions = self.subscriptions(tenant);
        subscriptions.iter().filter(|one| one.settings.plugin.names(plugin)).map(|one| one.id).collect()
    }

    /// Refuses to delete a plugin that subscriptions use.
    ///
    /// # Errors
    /// [`StoreError::InUse`] with the subscriptions.
    pub(crate) fn require_unused(&self, tenant: &TenantId, plugin: &str) -> Result<(), StoreError> {
        refuse_if_used(self.users_of(tenant, plugin), || format!("the plugin {plugin}"))
    }

    /// Refuses to delete a version that subscriptions are pinned to.
    ///
    /// # Errors
    /// [`StoreError::InUse`] with the subscriptions.
    pub(crate) fn require_unpinned(&self, tenant: &TenantId, plugin: &str, sha256: &str) -> Result<(), StoreError> {
        let is_pinned =
            |step: &Step| *step.plugin == *plugin && step.pin.as_ref().is_some_and(|pin| pin.as_str() == sha256);
        let subscriptions = self.subscriptions(tenant);
        let users = subscriptions.iter().filter(|one| one.settings.plugin.0.iter().any(is_pinned)).map(|one| one.id);
        refuse_if_used(users.collect(), || format!("the version {sha256} of the plugin {plugin}"))
    }

    /// Returns all subscriptions, oldest first.
    pub fn all_subscriptions(&self) -> Vec<Arc<Subscription>> {
        let mut all: Vec<_> = self.read().subscriptions.values().cloned().collect();
        all.sort_unstable_by_key(|one| one.id);
        all
    }

    /// Returns the module of an event name in this tenant. None: the tenant does not accept the name.
    pub fn module_of(&self, tenant: &TenantId, event_name: &str) -> Option<Module> {
        let vendors = VENDOR_EVENT_NAMES.iter().find(|(name, _)| *name == event_name).map(|(_, module)| *module);
        vendors.or_else(|| self.tenant(tenant)?.event_types.get(event_name).map(|one| one.module))
    }

    pub(crate) fn put_tenant(&self, tenant: Tenant) {
        let mut tables = self.write();
        let tenant = Arc::new(tenant);
        let generation = tables.next_generation();
        let blank = || TenantShelf {
            tenant: tenant.clone(),
            generation,
            subscriptions: List::default(),
            modules: Default::default(),
        };
        tables.tenants.entry(tenant.id.clone()).or_insert_with(blank).tenant = tenant.clone();
    }

    /// Removes a tenant with its keys, sessions, tokens and subscriptions.
    pub(crate) fn remove_tenant(&self, id: &TenantId) {
        let mut tables = self.write();
        let Tables { tenants, subscriptions, keys, tokens, sessions, .. } = &mut *tables;
        tenants.remove(id);
        subscriptions.retain(|_, one| one.tenant != *id);
        tokens.retain(|_, token| token.tenant != *id);
        keys.retain(|_, key| key.tenant.as_ref() != Some(id));
        let left: HashSet<Uuid> = keys.values().map(|key| key.id).collect();
        sessions.retain(|_, session| left.contains(&session.key));
    }

    /// Replaces everything by what another catalog has. All receivers that were matched before are outdated.
    #[cfg(any(test, feature = "memory", feature = "postgres"))]
    pub(crate) fn replace(&self, other: Catalog) {
        let mut new = other.tables.into_inner();
        let mut tables = self.write();
        new.generation = tables.generation;
        let mut tenants = std::mem::take(&mut new.tenants);
        tenants.values_mut().for_each(|records| records.generation = new.next_generation());
        new.tenants = tenants;
        *tables = new;
    }

    pub(crate) fn put_key(&self, hash: [u8; 32], key: ApiKey) {
        self.write().keys.insert(hash, Arc::new(key));
    }

    pub(crate) fn remove_key(&self, id: Uuid) {
        let mut tables = self.write();
        tables.keys.retain(|_, key| key.id != id);
        tables.sessions.retain(|_, session| session.key != id);
    }

    pub(crate) fn put_token(&self, hash: [u8; 32], token: IntakeToken) {
        self.write().tokens.insert(hash, Arc::new(token));
    }

    pub(crate) fn remove_token(&self, id: Uuid) {
        self.write().tokens.retain(|_, token| token.id != id);
    }

    /// Adds subscriptions, or replaces those with the same id.
    pub(crate) fn put_subscriptions(&self, changed: Vec<Arc<Subscription>>) {
        let mut tables = self.write();
        for subscription in changed {
            tables.subscriptions.insert(subscription.id, subscription.clone());
            let generation = tables.next_generation();
            let Some(records) = tables.tenants.get_mut(&subscription.tenant) else { continue };
            records.generation = generation;
            for module in Module::ALL {
                let receivers = &mut records.modules[module as usize];
                if subscription.matches(module) {
                    receivers.put(subscription.clone());
                } else {
                    receivers.take_out(subscription.id);
                }
            }
            put(&mut records.subscriptions, subscription);
        }
    }

    pub(crate) fn remove_subscription(&self, tenant: &TenantId, id: SubscriptionId) {
        let mut tables = self.write();
        tables.subscriptions.remove(&id);
        let generation = tables.next_generation();
        if let Some(records) = tables.tenants.get_mut(tenant) {
            records.generation = generation;
            take_out(&mut records.subscriptions, id);
            records.modules.iter_mut().for_each(|receivers| receivers.take_out(id));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write()
    }
}

fn refuse_if_used(by: Vec<SubscriptionId>, what: impl FnOnce() -> String) -> Result<(), StoreError> {
    if by.is_empty() { Ok(()) } else { Err(StoreError::InUse { what: what(), by }) }
}
