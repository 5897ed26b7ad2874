//! Reading of the catalog from the database: all of it when the host registers, and later what changed.

use super::connection::Connection;
use super::recount::PendingNumbers;
use super::{credentials, rows, sessions, subscriptions, tenants};
use crate::StoreError;
use crate::backend::access::CredentialHash;
use crate::catalog::Catalog;
use crate::host_state::HostState;
use crate::vault::Vault;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// Fills an empty catalog with tenants, keys, tokens, sessions and subscriptions. Returns the last change that it shows.
pub(super) async fn load(connection: &Connection, vault: &Vault, catalog: &Catalog) -> Result<i64, StoreError> {
    // Read first: what changes meanwhile is loaded again.
    let row = connection.query_one("SELECT coalesce(max(generation), 0) FROM fleet_changes", &[]).await?;
    let generation = row.try_get(0)?;
    tenants::load(connection, None).await?.into_iter().for_each(|tenant| catalog.put_tenant(tenant));
    let keys = credentials::load_keys(connection, None).await?;
    keys.into_iter().for_each(|(hash, key)| catalog.put_key(hash, key));
    let tokens = credentials::load_tokens(connection, None).await?;
    tokens.into_iter().for_each(|(hash, token)| catalog.put_token(hash, token));
    let open = sessions::load(connection, None).await?;
    open.into_iter().for_each(|(hash, session)| catalog.put_session(hash, session));
    let subscriptions = subscriptions::load(connection, vault, None).await?.into_iter();
    // Subscriptions of a tenant that is being deleted still have rows.
    let subscriptions = subscriptions.filter(|one| catalog.tenant(&one.tenant).is_some());
    catalog.put_subscriptions(subscriptions.map(Arc::new).collect());
    Ok(generation)
}

/// Changes of other hosts, by what they concern.
#[derive(Default)]
struct Changes {
    tenants: BTreeSet<String>,
    keys: BTreeSet<Uuid>,
    tokens: BTreeSet<Uuid>,
    sessions: BTreeSet<Vec<u8>>,
    /// Tenants of subscriptions, by subscription.
    subscriptions: HashMap<Uuid, TenantId>,
    /// Subscriptions with deliveries that an operator changed.
    lanes: BTreeSet<Uuid>,
    plugins: BTreeSet<String>,
}

/// Loads what other hosts changed after a generation, and shows it. Returns the tenants whose plugins changed.
pub(super) async fn load_changes(
    connection: &Connection,
    vault: &Vault,
    state: &HostState,
    pending: &PendingNumbers,
    after: i64,
) -> Result<Vec<TenantId>, StoreError> {
    let changes = Changes::read(connection, after).await?;
    changes.show_tenants(connection, state, pending).await?;
    changes.show_credentials(connection, &state.catalog).await?;
    changes.show_subscriptions(connection, vault, state).await?;
    changes.lanes.iter().for_each(|id| state.publish_change(SubscriptionId(*id)));
    Ok(changes.plugins.iter().map(|tenant| TenantId(tenant.as_str().into())).collect())
}

impl Changes {
    async fn read(connection: &Connection, after: i64) -> Result<Changes, StoreError> {
        let sql = "SELECT DISTINCT kind, tenant, id, hash FROM fleet_changes WHERE generation > $1";
        let mut changes = Changes::default();
        for row in connection.query(sql, &[&after]).await? {
            let kind: &str = row.try_get(0)?;
            let tenant: Option<String> = row.try_get(1)?;
            let id: Option<Uuid> = row.try_get(2)?;
            match (kind, tenant, id) {
                ("tenant", Some(tenant), _) => drop(changes.tenants.insert(tenant)),
                ("key", _, Some(id)) => drop(changes.keys.insert(id)),
                ("token", _, Some(id)) => drop(changes.tokens.insert(id)),
                ("session", ..) => drop(changes.sessions.insert(row.try_get(3)?)),
                ("subscription", Some(_), Some(id)) => {
                    changes.subscriptions.insert(id, rows::tenant(&row, 1)?);
                }
                ("lane", _, Some(id)) => drop(changes.lanes.insert(id)),
                ("plugin", Some(tenant), _) => drop(changes.plugins.insert(tenant)),
                // A newer host of a rolling upgrade may write kinds that concern only its like.
                _ => tracing::debug!(kind, "a change of a kind that this host does not know"),
            }
        }
        Ok(changes)
    }

    async fn show_tenants(
        &self,
        connection: &Connection,
        state: &HostState,
        pending: &PendingNumbers,
    ) -> Result<(), StoreError> {
        if self.tenants.is_empty() {
            return Ok(());
        }
        let mut gone = self.tenants.clone();
        let ids: Vec<String> = self.tenants.iter().cloned().collect();
        for tenant in tenants::load(connection, Some(&ids)).await? {
            gone.remove(&*tenant.id.0);
            state.catalog.put_tenant(tenant);
        }
        for tenant in gone {
            let tenant = TenantId(tenant.into());
            let subscriptions = state.catalog.subscriptions(&tenant);
            state.catalog.remove_tenant(&tenant);
            pending.forget(&tenant);
            subscriptions.iter().for_each(|one| state.publish_change(one.id));
        }
        Ok(())
    }

    async fn show_credentials(&self, connection: &Connection, catalog: &Catalog) -> Result<(), StoreError> {
        if !self.keys.is_empty() {
            let ids: Vec<Uuid> = self.keys.iter().copied().collect();
            let found = credentials::load_keys(connection, Some(&ids)).await?;
            let put = |hash, key| catalog.put_key(hash, key);
            show_credentials(&self.keys, found, |_, key| key.id, put, |id| catalog.remove_key(id));
        }
        if !self.tokens.is_empty() {
            let ids: Vec<Uuid> = self.tokens.iter().copied().collect();
            let found = credentials::load_tokens(connection, Some(&ids)).await?;
            let put = |hash, token| catalog.put_token(hash, token);
            show_credentials(&self.tokens, found, |_, token| token.id, put, |id| catalog.remove_token(id));
        }
        if !self.sessions.is_empty() {
            let hashes: Vec<Vec<u8>> = self.sessions.iter().cloned().collect();
            let found = sessions::load(connection, Some(&hashes)).await?;
            let put = |hash, session| catalog.put_session(hash, session);
            show_credentials(
                &self.sessions,
                found,
                |hash, _| hash.to_vec(),
                put,
                |hash| {
                    if let Ok(hash) = hash.try_into() {
                        catalog.remove_session(&hash);
                    }
                },
            );
        }
        Ok(())
    }

    async fn show_subscriptions(
        &self,
        connection: &Connection,
        vault: &Vault,
        state: &HostState,
    ) -> Result<(), StoreError> {
        if self.subscriptions.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = self.subscriptions.keys().copied().collect();
        let found = subscriptions::load(connection, vault, Some(&ids)).await?.into_iter();
        let found: Vec<_> = found.filter(|one| state.catalog.tenant(&one.tenant).is_some()).map(Arc::new).collect();
        let mut gone = self.subscriptions.clone();
        found.iter().for_each(|one| drop(gone.remove(&one.id.0)));
        state.catalog.put_subscriptions(found);
        gone.iter().for_each(|(id, tenant)| state.catalog.remove_subscription(tenant, SubscriptionId(*id)));
        ids.into_iter().for_each(|id| state.publish_change(SubscriptionId(id)));
        Ok(())
    }
}

/// Puts credentials that were found, and removes those of the changed ones that were not.
fn show_credentials<I: Ord + Clone, T>(
    changed: &BTreeSet<I>,
    found: Vec<(CredentialHash, T)>,
    id: impl Fn(&CredentialHash, &T) -> I,
    put: impl Fn(CredentialHash, T),
    remove: impl Fn(I),
) {
    let mut gone = changed.clone();
    for (hash, one) in found {
        gone.remove(&id(&hash, &one));
        put(hash, one);
    }
    gone.into_iter().for_each(remove);
}
