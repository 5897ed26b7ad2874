//! Shards and hosts, as one read of the database shows them.
//!
//! Pure: what follows from it is decided here, whatever the database.

use crate::ownership::{SHARDS, ShardSet};
use std::collections::BTreeMap;

/// Host of the fleet, as its row shows it.
#[derive(Clone, Debug)]
pub(crate) struct FleetHost {
    pub(crate) host: i16,
    /// True if its lease has ended.
    pub(crate) has_ended: bool,
    /// True if it has loaded the catalog.
    pub(crate) serves: bool,
}

/// State of the fleet.
#[derive(Debug, Default)]
pub(crate) struct FleetState {
    pub(crate) members: Vec<FleetHost>,
    /// Shards of each owner.
    pub(crate) owners: BTreeMap<i16, ShardSet>,
    /// Shards that were taken over from a host that ended.
    pub(crate) taken_over: ShardSet,
    /// Last change of the catalog.
    pub(crate) generation: i64,
}

/// Maximum number of shards that are given at once. Their lanes rest until the attempts under way have ended.
const GIVEN_AT_ONCE: usize = 16;

impl FleetState {
    /// Returns the shards of a host.
    pub(crate) fn of(&self, host: i16) -> ShardSet {
        self.owners.get(&host).copied().unwrap_or_default()
    }

    /// Returns the hosts that run lanes.
    fn serving(&self) -> impl Iterator<Item = i16> {
        self.members.iter().filter(|one| one.serves && !one.has_ended).map(|one| one.host)
    }

    /// Returns the hosts other than one that run lanes.
    pub(crate) fn others(&self, than: i16) -> Vec<i16> {
        self.serving().filter(|host| *host != than).collect()
    }

    /// Returns shards that a host should give to the host with the fewest, so that all have about the same number. None: it has no more
    /// than its part.
    pub(crate) fn excess(&self, host: i16) -> Option<(i16, ShardSet)> {
        let hosts = self.serving().count();
        let (to, fewest) =
            self.others(host).into_iter().map(|other| (other, self.of(other).len())).min_by_key(|(_, len)| *len)?;
        let of_host = self.of(host);
        let most = SHARDS.div_ceil(hosts.max(1));
        let excess = of_host.len().saturating_sub(most).min(most.saturating_sub(fewest)).min(GIVEN_AT_ONCE);
        let given: ShardSet = of_host.iter().take(excess).collect();
        (!given.is_empty()).then_some((to, given))
    }
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
        fleet(shards).excess(1).map(|(to, given)| (to, given.len()))
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
        assert!(state.excess(1).is_none());
        state.members[2].serves = true;
        assert_eq!(state.excess(1).map(|(to, _)| to), Some(3));
    }
}
