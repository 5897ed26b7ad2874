//! Tables of the hosts that share a store in memory, and what each statement does in them.
//!
//! # Guarantees
//! - Every statement is one step, so registrations, takeovers and departures run one after the other, and a takeover waits for no
//!   transaction.
//!
//! # Limits
//! Changes are never deleted.

use super::sorted_table::SortedTable;
use crate::StoreError;
use crate::activity::AttemptLoad;
use crate::backend::fleet::{FleetView, LostHost, SharedShard, SharingHost};
use crate::fleet::{FleetHost, FleetState, LEASE, Registration};
use crate::ownership::ShardSet;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Tables of the fleet, which are empty without one.
#[derive(Clone, Default)]
pub(super) struct FleetTables {
    hosts: SortedTable<i16, HostRow>,
    /// Epoch of each number that a host ever had.
    epochs: SortedTable<i16, i64>,
    owners: SortedTable<i16, ShardSet>,
    /// Identities of the hosts that operators moved shards to.
    pins: SortedTable<u8, u64>,
    taken_over: ShardSet,
    /// Hosts that were taken over and have not registered again, by identity: their number, and the time in milliseconds since the epoch.
    lost: SortedTable<u64, (i16, i64)>,
    /// Number of takeovers so far.
    pub(super) takeovers: u64,
    /// Number of transactions of hosts that were taken over, of which there must be none.
    pub(super) fenced_writes: u64,
    pub(super) changes: SortedTable<i64, FleetChange>,
}

/// Change that other hosts load.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FleetChange {
    Tenant(TenantId),
    Credentials,
    Subscription(TenantId, SubscriptionId),
    /// An operator changed deliveries of the subscription.
    Lane(SubscriptionId),
    Plugins(TenantId),
}

/// Row of a host.
#[derive(Clone)]
struct HostRow {
    /// Identity that a restart keeps.
    identity: u64,
    epoch: i64,
    /// End of the lease by the steady clock, since the boot of the machine.
    lease_until: Duration,
    /// The last change that is in force there. None: the host has not loaded the catalog.
    generation: Option<i64>,
    /// Time of the registration, in milliseconds since the epoch.
    started_at_ms: i64,
    load: AttemptLoad,
}

/// Returns a number that is not negative.
fn int(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or_default()
}

impl HostRow {
    fn has_lease(&self) -> bool {
        self.lease_until > clock::since_boot()
    }

    fn has_ended(&self) -> bool {
        self.lease_until < clock::since_boot()
    }
}

impl FleetTables {
    /// Registers a host, also one that is registered. Shards that nobody owns become its own.
    pub(super) fn register(&mut self, identity: u64) -> Registration {
        let known = self.number_of(identity);
        let free = || (1..).find(|host| !self.hosts.contains_key(host)).unwrap_or(i16::MAX);
        let host = known.unwrap_or_else(free);
        let epoch = self.raise_epoch(host);
        let lease_until = clock::since_boot() + LEASE;
        let load = AttemptLoad::default();
        let row = HostRow { identity, epoch, lease_until, generation: None, started_at_ms: now_ms(), load };
        self.hosts.insert_mut(host, row);
        self.lost.remove_mut(&identity);
        self.add(host, ShardSet::ALL.without(&self.owned()));
        Registration { host, epoch }
    }

    fn raise_epoch(&mut self, host: i16) -> i64 {
        let epoch = self.epochs.get(&host).copied().unwrap_or_default() + 1;
        self.epochs.insert_mut(host, epoch);
        epoch
    }

    /// Returns true if writes of a registration are refused: the host has registered again, left, or was taken over.
    pub(super) fn is_fenced(&self, registration: Registration) -> bool {
        self.epochs.get(&registration.host) != Some(&registration.epoch)
    }

    /// Counts a transaction that is about to be committed.
    pub(super) fn note_write(&mut self, registration: Registration) {
        self.fenced_writes += u64::from(self.is_fenced(registration));
    }

    /// Renews the lease of a host, unless it has ended or the host was taken over.
    pub(super) fn renew(&mut self, registration: Registration, generation: Option<i64>, load: AttemptLoad) -> bool {
        let row = self.hosts.get_mut(&registration.host);
        let Some(row) = row.filter(|row| row.epoch == registration.epoch && row.has_lease()) else { return false };
        row.lease_until = clock::since_boot() + LEASE;
        row.generation = generation;
        row.load = load;
        true
    }

    /// Returns the state of the fleet.
    pub(super) fn state(&self) -> FleetState {
        let members = self.hosts.iter().map(|(host, row)| FleetHost {
            host: *host,
            has_ended: row.has_ended(),
            serves: row.generation.is_some(),
        });
        let mut pinned: BTreeMap<i16, ShardSet> = BTreeMap::new();
        for (shard, identity) in &self.pins {
            if let Some(host) = self.number_of(*identity) {
                pinned.entry(host).or_default().insert(*shard);
            }
        }
        FleetState {
            members: members.collect(),
            pinned,
            owners: self.owners.iter().map(|(host, shards)| (*host, *shards)).collect(),
            taken_over: self.taken_over,
            generation: self.generation(),
        }
    }

    /// Takes over from a host whose lease has ended.
    pub(super) fn take_over(&mut self, by: Registration, from: i16) -> bool {
        let has_ended = self.hosts.get(&from).is_some_and(HostRow::has_ended);
        let has_lease = |row: &HostRow| row.epoch == by.epoch && row.has_lease();
        if !has_ended || !self.hosts.get(&by.host).is_some_and(has_lease) {
            return false;
        }
        self.raise_epoch(from);
        self.give_all(from);
        if let Some(row) = self.hosts.get(&from) {
            self.lost.insert_mut(row.identity, (from, now_ms()));
        }
        self.hosts.remove_mut(&from);
        self.takeovers += 1;
        true
    }

    /// Gives the shards of a host to the others that serve, in turn. Without any, the host keeps them.
    fn give_all(&mut self, from: i16) {
        let others =
            self.hosts.iter().filter(|(host, row)| **host != from && row.generation.is_some() && row.has_lease());
        let others: Vec<i16> = others.map(|(host, _)| *host).collect();
        let left = self.owners.get(&from).copied().unwrap_or_default();
        for (place, to) in others.iter().enumerate() {
            let part: ShardSet = left.iter().skip(place).step_by(others.len()).collect();
            self.move_shards(from, *to, part);
            self.taken_over = self.taken_over.with(&part);
        }
    }

    fn number_of(&self, identity: u64) -> Option<i16> {
        self.hosts.iter().find(|(_, row)| row.identity == identity).map(|(host, _)| *host)
    }

    /// Lets the owner of a shard give it to a host that has a lease. None: to any host.
    pub(super) fn pin(&mut self, shard: u8, to: Option<i16>) -> Result<(), StoreError> {
        match to {
            Some(to) => {
                let row = self.hosts.get(&to).filter(|row| row.has_lease()).ok_or(StoreError::NotFound("host"))?;
                self.pins.insert_mut(shard, row.identity);
            }
            None => drop(self.pins.remove_mut(&shard)),
        }
        Ok(())
    }

    /// Returns the hosts and shards, as operators see them.
    pub(super) fn view(&self, own: i16) -> FleetView {
        let hosts = self.hosts.iter().map(|(number, row)| SharingHost {
            number: *number,
            name: row.identity.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: row.started_at_ms,
            lease_ms: Some(int(row.lease_until.saturating_sub(clock::since_boot()).as_millis())),
            has_ended: !row.has_lease(),
            changes_behind: row.generation.map(|shown| int(self.generation() - shown)),
            attempts: row.load,
            is_this: *number == own,
        });
        let owner = |shard| self.owners.iter().find(|(_, shards)| shards.has(shard)).map(|(host, _)| *host);
        let shards = (0..=u8::MAX).map(|shard| {
            let pin = self.pins.get(&shard);
            let pinned_to = pin.and_then(|identity| self.number_of(*identity));
            SharedShard { owner: owner(shard), is_pinned: pin.is_some(), pinned_to }
        });
        let lost = self.lost.iter().map(|(identity, (number, lost_at_ms))| LostHost {
            number: *number,
            name: identity.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            lost_at_ms: *lost_at_ms,
        });
        let mut lost: Vec<LostHost> = lost.collect();
        lost.sort_by_key(|one| std::cmp::Reverse(one.lost_at_ms));
        FleetView { hosts: hosts.collect(), shards: shards.collect(), lost }
    }

    /// Gives shards of a host to another one that is registered.
    pub(super) fn give(&mut self, from: i16, to: i16, shards: ShardSet) {
        if self.hosts.contains_key(&to) {
            self.taken_over = self.taken_over.without(&shards);
            self.move_shards(from, to, shards);
        }
    }

    fn move_shards(&mut self, from: i16, to: i16, shards: ShardSet) {
        let of_host = self.owners.get(&from).copied().unwrap_or_default();
        let moved = of_host.without(&of_host.without(&shards));
        self.owners.insert_mut(from, of_host.without(&moved));
        self.add(to, moved);
    }

    fn add(&mut self, host: i16, shards: ShardSet) {
        let of_host = self.owners.get(&host).copied().unwrap_or_default();
        self.owners.insert_mut(host, of_host.with(&shards));
    }

    /// Leaves the fleet. Shards that the host still owns go to the others that serve. Without any other host, nobody owns them.
    pub(super) fn leave(&mut self, registration: Registration) {
        let Registration { host, .. } = registration;
        if self.is_fenced(registration) {
            return;
        }
        self.raise_epoch(host);
        self.give_all(host);
        let is_last = !self.hosts.iter().any(|(other, row)| *other != host && row.has_lease());
        if is_last {
            self.owners.remove_mut(&host);
        }
        if self.owners.get(&host).is_none_or(ShardSet::is_empty) {
            self.owners.remove_mut(&host);
            self.hosts.remove_mut(&host);
        } else if let Some(row) = self.hosts.get_mut(&host) {
            row.lease_until = clock::since_boot();
        }
    }

    /// Returns the last change.
    pub(super) fn generation(&self) -> i64 {
        self.changes.last().map_or(0, |(generation, _)| *generation)
    }

    /// Returns the identities of the hosts other than one that may begin attempts and have not loaded a change.
    pub(super) fn lagging(&self, host: i16, generation: i64) -> Vec<String> {
        let lags = |row: &HostRow| row.generation.is_some_and(|shown| shown < generation) && row.has_lease();
        let lagging = self.hosts.iter().filter(|(other, row)| **other != host && lags(row));
        lagging.map(|(_, row)| row.identity.to_string()).collect()
    }

    /// Returns the number, epoch and end of the lease of a host, and its shards.
    pub(super) fn member(&self, identity: u64) -> Option<(Registration, Duration, ShardSet)> {
        let (host, row) = self.hosts.iter().find(|(_, row)| row.identity == identity)?;
        let shards = self.owners.get(host).copied().unwrap_or_default();
        Some((Registration { host: *host, epoch: row.epoch }, row.lease_until, shards))
    }

    /// Returns true if two hosts own a shard.
    pub(super) fn has_two_owners(&self) -> bool {
        self.owners.values().map(ShardSet::len).sum::<usize>() > self.owned().len()
    }

    /// Returns the shards that have an owner.
    fn owned(&self) -> ShardSet {
        self.owners.values().fold(ShardSet::default(), |all, of_host| all.with(of_host))
    }
}

#[cfg(test)]
mod tests;
