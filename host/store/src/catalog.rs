//! Catalog: tenants, keys, tokens, sessions and subscriptions in memory, because every request needs them.
//!
//! Only the writer's thread changes the catalog, after a commit. Reads never wait for the disk. The catalog holds no events and no
//! deliveries.

use hookloom_model::access::{ApiKey, IntakeToken, Session};
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
}

/// Subscriptions in the order of their ids, which is the order of creation.
type List = Arc<Vec<Arc<Subscription>>>;

struct TenantShelf {
    tenant: Arc<Tenant>,
    subscriptions: List,
    /// Subscriptions of each module, so that an event does not look at the others.
    matching: [List; Module::ALL.len()],
}

/// Adds a subscription to a list, or replaces the one with its id.
fn put(list: &mut List, subscription: Arc<Subscription>) {
    let list = Arc::make_mut(list);
    match list.binary_search_by_key(&subscription.id, |other| other.id) {
        Ok(at) => list[at] = subscription,
        Err(at) => list.insert(at, subscription),
    }
}

fn take_out(list: &mut List, id: SubscriptionId) {
    if let Ok(at) = list.binary_search_by_key(&id, |other| other.id) {
        Arc::make_mut(list).remove(at);
    }
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
    pub(super) async fn key_use(&self) {
        self.key_used.notified().await;
    }

    /// Takes the times of last use, by key, since the previous call.
    pub(super) fn take_used(&self) -> HashMap<Uuid, i64> {
        std::mem::take(&mut *self.used.lock())
    }

    /// Returns the time of last use of a key, if it is not in the database yet.
    pub(super) fn used_at_ms(&self, key: Uuid) -> Option<i64> {
        self.used.lock().get(&key).copied()
    }

    pub(super) fn put_session(&self, hash: [u8; 32], session: Session) {
        let mut tables = self.write();
        let now_ms = now_ms();
        tables.sessions.retain(|_, other| other.expires_at_ms > now_ms);
        tables.sessions.insert(hash, Arc::new(session));
    }

    pub(super) fn remove_session(&self, hash: &[u8; 32]) {
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

    /// Returns the subscriptions that receive events of a module.
    pub fn matching(&self, tenant: &TenantId, module: Module) -> List {
        self.read().tenants.get(tenant).map(|records| records.matching[module as usize].clone()).unwrap_or_default()
    }

    /// Returns all subscriptions.
    pub fn all_subscriptions(&self) -> Vec<Arc<Subscription>> {
        self.read().subscriptions.values().cloned().collect()
    }

    /// Returns the module of an event name in this tenant. None: the tenant does not accept the name.
    pub fn module_of(&self, tenant: &TenantId, event_name: &str) -> Option<Module> {
        let vendors = VENDOR_EVENT_NAMES.iter().find(|(name, _)| *name == event_name).map(|(_, module)| *module);
        vendors.or_else(|| self.tenant(tenant)?.extra_event_names.get(event_name).copied())
    }

    pub(super) fn put_tenant(&self, tenant: Tenant) {
        let mut tables = self.write();
        let tenant = Arc::new(tenant);
        let blank =
            || TenantShelf { tenant: tenant.clone(), subscriptions: List::default(), matching: Default::default() };
        tables.tenants.entry(tenant.id.clone()).or_insert_with(blank).tenant = tenant.clone();
    }

    /// Removes a tenant with its keys, sessions, tokens and subscriptions.
    pub(super) fn remove_tenant(&self, id: &TenantId) {
        let mut tables = self.write();
        let Tables { tenants, subscriptions, keys, tokens, sessions } = &mut *tables;
        tenants.remove(id);
        subscriptions.retain(|_, one| one.tenant != *id);
        tokens.retain(|_, token| token.tenant != *id);
        keys.retain(|_, key| key.tenant.as_ref() != Some(id));
        let left: HashSet<Uuid> = keys.values().map(|key| key.id).collect();
        sessions.retain(|_, session| left.contains(&session.key));
    }

    pub(super) fn put_key(&self, hash: [u8; 32], key: ApiKey) {
        self.write().keys.insert(hash, Arc::new(key));
    }

    pub(super) fn remove_key(&self, id: Uuid) {
        let mut tables = self.write();
        tables.keys.retain(|_, key| key.id != id);
        tables.sessions.retain(|_, session| session.key != id);
    }

    pub(super) fn put_token(&self, hash: [u8; 32], token: IntakeToken) {
        self.write().tokens.insert(hash, Arc::new(token));
    }

    pub(super) fn remove_token(&self, id: Uuid) {
        self.write().tokens.retain(|_, token| token.id != id);
    }

    /// Adds subscriptions, or replaces those with the same id.
    pub(super) fn put_subscriptions(&self, changed: Vec<Arc<Subscription>>) {
        let mut tables = self.write();
        for subscription in changed {
            tables.subscriptions.insert(subscription.id, subscription.clone());
            let Some(records) = tables.tenants.get_mut(&subscription.tenant) else { continue };
            for module in Module::ALL {
                let list = &mut records.matching[module as usize];
                if subscription.matches(module) {
                    put(list, subscription.clone());
                } else {
                    take_out(list, subscription.id);
                }
            }
            put(&mut records.subscriptions, subscription);
        }
    }

    pub(super) fn remove_subscription(&self, tenant: &TenantId, id: SubscriptionId) {
        let mut tables = self.write();
        tables.subscriptions.remove(&id);
        if let Some(records) = tables.tenants.get_mut(tenant) {
            take_out(&mut records.subscriptions, id);
            records.matching.iter_mut().for_each(|list| take_out(list, id));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write()
    }
}
