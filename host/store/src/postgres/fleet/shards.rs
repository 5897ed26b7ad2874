//! Shards and hosts, as one read of the database shows them.

use super::super::connection::Connection;
use super::registration::Registration;
use crate::StoreError;
use crate::ownership::{SHARDS, ShardSet};
use std::collections::BTreeMap;

/// Host of the fleet, as its row shows it.
#[derive(Clone, Debug)]
pub(super) struct FleetHost {
    pub(super) host: i16,
    /// True if its lease has ended.
    pub(super) has_ended: bool,
    /// True if it has loaded the catalog.
    pub(super) serves: bool,
}

/// State of the fleet.
#[derive(Debug, Default)]
pub(super) struct FleetState {
    pub(super) members: Vec<FleetHost>,
    /// Shards of each owner.
    pub(super) owners: BTreeMap<i16, ShardSet>,
    /// Shards that were taken over lately from a host that may still have had attempts under way.
    pub(super) taken_over: ShardSet,
    /// Last change of the catalog.
    pub(super) generation: i64,
}

/// Time after a takeover in which attempts of the former owner may be under way, in seconds: more than any `timeout_ms`.
const TAKEN_OVER_S: f64 = 300.0;

/// Maximum number of shards that are given at once. Their lanes rest until the attempts under way have ended.
const GIVEN_AT_ONCE: usize = 16;

impl FleetState {
    /// Reads the state.
    pub(super) async fn read(connection: &Connection) -> Result<FleetState, StoreError> {
        let mut state = FleetState::default();
        let sql = "SELECT host, lease_until < clock_timestamp(), generation IS NOT NULL FROM hosts ORDER BY host";
        for row in connection.query(sql, &[]).await? {
            state.members.push(FleetHost {
                host: row.try_get(0)?,
                has_ended: row.try_get(1)?,
                serves: row.try_get(2)?,
            });
        }
        let sql = "SELECT shard, owner, coalesce(taken_over_at > clock_timestamp() - $1 * interval '1 s', false)
                   FROM shards WHERE owner IS NOT NULL";
        for row in connection.query(sql, &[&TAKEN_OVER_S]).await? {
            let Ok(shard) = u8::try_from(row.try_get::<_, i16>(0)?) else { continue };
            state.owners.entry(row.try_get(1)?).or_default().insert(shard);
            if row.try_get(2)? {
                state.taken_over.insert(shard);
            }
        }
        let sql = "SELECT coalesce(max(generation), 0) FROM fleet_changes";
        state.generation = connection.query_one(sql, &[]).await?.try_get(0)?;
        Ok(state)
    }

    /// Returns the shards of a host.
    pub(super) fn of(&self, host: i16) -> ShardSet {
        self.owners.get(&host).copied().unwrap_or_default()
    }

    /// Returns the hosts that run lanes.
    fn serving(&self) -> impl Iterator<Item = i16> {
        self.members.iter().filter(|one| one.serves && !one.has_ended).map(|one| one.host)
    }

    /// Returns the hosts other than one that run lanes.
    pub(super) fn others(&self, than: i16) -> Vec<i16> {
        self.serving().filter(|host| *host != than).collect()
    }

    /// Returns shards that a host should give to the host with the fewest, so that all have about the same number. None: it has no more
    /// than its part. `keeps`: shards that it does not give.
    pub(super) fn excess(&self, host: i16, keeps: ShardSet) -> Option<(i16, ShardSet)> {
        let hosts = self.serving().count();
        let (to, fewest) =
            self.others(host).into_iter().map(|other| (other, self.of(other).len())).min_by_key(|(_, len)| *len)?;
        let of_host = self.of(host);
        let most = SHARDS.div_ceil(hosts.max(1));
        let excess = of_host.len().saturating_sub(most).min(most.saturating_sub(fewest)).min(GIVEN_AT_ONCE);
        let given: ShardSet = of_host.without(&keeps).iter().take(excess).collect();
        (!given.is_empty()).then_some((to, given))
    }
}

/// Gives shards of a host to another one, within a transaction of its writer.
pub(super) async fn give(
    connection: &Connection,
    from: Registration,
    to: i16,
    shards: ShardSet,
) -> Result<(), StoreError> {
    let shards: Vec<i16> = shards.iter().map(i16::from).collect();
    let sql = "UPDATE shards SET owner = $2, taken_over_at = NULL WHERE owner = $1 AND shard = ANY ($3)
                 AND EXISTS (SELECT 1 FROM hosts WHERE host = $2)";
    connection.execute(sql, &[&from.host, &to, &shards]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(shards: &[usize]) -> FleetState {
        let mut state = FleetState::default();
        let mut next = 0;
        for (index, number) in shards.iter().enumerate() {
            let host = i16::try_from(index).expect("few hosts") + 1;
            state.members.push(FleetHost { host, has_ended: false, serves: true });
            let of_host: ShardSet = (next..next + number).map(|shard| shard as u8).collect();
            state.owners.insert(host, of_host);
            next += number;
        }
        state
    }

    fn excess(shards: &[usize]) -> Option<(i16, usize)> {
        fleet(shards).excess(1, ShardSet::default()).map(|(to, given)| (to, given.len()))
    }

    #[test]
    fn a_host_gives_what_it_has_too_many_of_to_the_one_with_the_fewest() {
        assert_eq!(excess(&[256]), None);
        assert_eq!(excess(&[256, 0]), Some((2, 16)));
        assert_eq!(excess(&[130, 126]), Some((2, 2)));
        assert_eq!(excess(&[128, 128]), None);
        assert_eq!(excess(&[90, 81, 85]), Some((2, 4)));
        assert_eq!(excess(&[86, 85, 85]), None);
        assert_eq!(excess(&[100, 156]), None);
    }

    #[test]
    fn hosts_that_ended_or_have_not_loaded_the_catalog_get_nothing() {
        let mut state = fleet(&[256, 0, 0]);
        state.members[1].has_ended = true;
        state.members[2].serves = false;
        assert!(state.excess(1, ShardSet::default()).is_none());
        state.members[2].serves = true;
        assert_eq!(state.excess(1, ShardSet::default()).map(|(to, _)| to), Some(3));
    }
}
