//! Changes that hosts load again, and their loading into the catalog.
//!
//! # Guarantees
//! - A transaction notes what it changed of tenants, credentials, subscriptions and plugins, by a comparison of the tables, so no
//!   operation can forget it.
//!
//! # Limits
//! After a change of credentials, all of them are loaded.

use crate::catalog::Catalog;
use crate::fleet::{Membership, Registration};
use crate::host_state::HostState;
use crate::memory::fleet_tables::FleetChange;
use crate::memory::sorted_table::SortedTable;
use crate::memory::tables::MemoryTables;
use hookloom_model::subscription::{SubscriptionId, Tenant, TenantId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Returns the keys of rows that were added, removed or changed.
fn changed<'t, K: Ord + Clone + 't, V>(
    before: &'t SortedTable<K, V>,
    after: &'t SortedTable<K, V>,
    is_same: impl Fn(&V, &V) -> bool + 't,
) -> impl Iterator<Item = K> + 't {
    let removed = before.keys().filter(|key| !after.contains_key(key));
    let new = after.iter().filter(move |(key, row)| !before.get(key).is_some_and(|old| is_same(old, row)));
    removed.chain(new.map(|(key, _)| key)).cloned()
}

fn tenant_of(tables: &MemoryTables, id: SubscriptionId) -> Option<TenantId> {
    tables.subscriptions.get(&id).map(|row| row.subscription.tenant.clone())
}

/// Notes in `after` what a transaction changed, and returns the last change.
pub(super) fn note(before: &MemoryTables, after: &mut MemoryTables) -> i64 {
    let mut changes = BTreeSet::new();
    let tenants = changed(&before.tenants, &after.tenants, |old, new| {
        Arc::ptr_eq(&old.tenant, &new.tenant) && old.deleting_since_ms == new.deleting_since_ms
    });
    changes.extend(tenants.map(FleetChange::Tenant));
    for id in changed(&before.subscriptions, &after.subscriptions, |old, new| {
        Arc::ptr_eq(&old.subscription, &new.subscription)
    }) {
        let tenant = tenant_of(after, id).or_else(|| tenant_of(before, id));
        changes.extend(tenant.map(|tenant| FleetChange::Subscription(tenant, id)));
    }
    let plugins = changed(&before.plugins, &after.plugins, |old, new| old.active_sha256 == new.active_sha256);
    changes.extend(plugins.map(|(tenant, _)| FleetChange::Plugins(tenant)));
    let rollouts = changed(&before.rollouts, &after.rollouts, |old, new| {
        old.id() == new.id() && old.percent == new.percent && old.ended_reason == new.ended_reason
    });
    changes.extend(rollouts.map(|(tenant, _)| FleetChange::Plugins(tenant)));
    let quarantined = changed(&before.quarantine, &after.quarantine, |_, _| true);
    changes.extend(quarantined.map(|(tenant, _)| FleetChange::Plugins(tenant)));
    let keys = changed(&before.keys, &after.keys, |old, new| old.hash == new.hash).next().is_some();
    let tokens = changed(&before.tokens, &after.tokens, |old, new| old.hash == new.hash).next().is_some();
    let sessions = changed(&before.sessions, &after.sessions, |_, _| true).next().is_some();
    changes.extend((keys || tokens || sessions).then_some(FleetChange::Credentials));
    changes.extend(std::mem::take(&mut after.changed_lanes).into_iter().map(FleetChange::Lane));
    let mut generation = after.fleet.generation();
    for change in changes {
        generation += 1;
        after.fleet.changes.insert_mut(generation, change);
    }
    generation
}

/// Loads what is not in the catalog, and shows it.
pub(super) fn show(tables: &MemoryTables, state: &HostState, membership: &Membership, registration: Registration) {
    let generation = tables.fleet.generation();
    let plugins = match membership.loaded(registration) {
        Some(loaded) if loaded == generation => return,
        Some(loaded) => {
            let changes = tables.fleet.changes.range(loaded + 1..).map(|(_, change)| change).collect();
            show_changes(tables, state, changes)
        }
        None => state.replace_catalog(whole_catalog(tables)),
    };
    membership.note_shown(registration, generation, plugins);
}

fn whole_catalog(tables: &MemoryTables) -> Catalog {
    let catalog = Catalog::default();
    tables.show_in(&catalog);
    catalog
}

/// Shows changes in the order of their kinds. Returns the tenants whose plugins changed.
fn show_changes(tables: &MemoryTables, state: &HostState, changes: BTreeSet<&FleetChange>) -> Vec<TenantId> {
    let mut plugins = Vec::new();
    let mut subscriptions = BTreeMap::new();
    for change in changes {
        match change {
            FleetChange::Tenant(id) => show_tenant(tables, state, id),
            FleetChange::Credentials => state.catalog.replace(whole_catalog(tables)),
            FleetChange::Subscription(tenant, id) => drop(subscriptions.insert(*id, tenant)),
            FleetChange::Lane(id) => state.publish_change(*id),
            FleetChange::Plugins(tenant) => plugins.push(tenant.clone()),
        }
    }
    for (id, tenant) in subscriptions {
        let row = tables.subscriptions.get(&id).filter(|_| state.catalog.tenant(tenant).is_some());
        match row {
            Some(row) => state.catalog.put_subscriptions(vec![row.subscription.clone()]),
            None => state.catalog.remove_subscription(tenant, id),
        }
        state.publish_change(id);
    }
    plugins
}

fn show_tenant(tables: &MemoryTables, state: &HostState, id: &TenantId) {
    if let Some(row) = tables.tenants.get(id).filter(|row| row.deleting_since_ms.is_none()) {
        state.catalog.put_tenant(Tenant::clone(&row.tenant));
        return;
    }
    let subscriptions = state.catalog.subscriptions(id);
    state.catalog.remove_tenant(id);
    subscriptions.iter().for_each(|one| state.publish_change(one.id));
}
