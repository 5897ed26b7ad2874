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
    /// Shards that an operator moved to each host.
    pub(crate) pinned: BTreeMap<i16, ShardSet>,
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

    /// Returns shards that a host should give to another one: those that an operator moved there, or else so many to the host with the
    /// fewest that all have about the same number. None: there are none.
    pub(crate) fn excess(&self, host: i16) -> Option<(i16, ShardSet)> {
        let others = self.others(host);
        let of_host = self.of(host);
        let pinned = |to: i16| (to, of_host.both(&self.pinned_to(to)).iter().take(GIVEN_AT_ONCE).collect());
        let pinned = others.iter().map(|to| pinned(*to)).find(|(_, shards): &(i16, ShardSet)| !shards.is_empty());
        pinned.or_else(|| {
            let (to, fewest) = others.iter().map(|to| (*to, self.of(*to).len())).min_by_key(|(_, len)| *len)?;
            let most = self.part();
            let excess = of_host.len().saturating_sub(most).min(most.saturating_sub(fewest)).min(GIVEN_AT_ONCE);
            let given: ShardSet = of_host.without(&self.pinned_to(host)).iter().take(excess).collect();
            (!given.is_empty()).then_some((to, given))
        })
    }

    /// Returns the shards that an operator moved to a host.
    fn pinned_to(&self, host: i16) -> ShardSet {
        self.pinned.get(&host).copied().unwrap_or_default()
    }

    /// Returns the number of shards that a host has at most, unless more are pinned to it. The other hosts share what is left.
    fn part(&self) -> usize {
        let mut pinned: Vec<usize> = self.serving().map(|host| self.pinned_to(host).len()).collect();
        pinned.sort_unstable();
        let mut left = SHARDS;
        while let Some(most_pinned) = pinned.pop() {
            let part = left.div_ceil(pinned.len() + 1);
            if most_pinned <= part {
                return part;
            }
            left -= most_pinned;
        }
        SHARDS
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

    fn set(shards: std::ops::Range<u8>) -> ShardSet {
        shards.collect()
    }

    #[test]
    fn a_shard_that_was_moved_by_hand_goes_to_its_host_and_stays_there() {
        let mut state = fleet(&[128, 128]);
        state.pinned.insert(2, [5].into_iter().collect());
        assert_eq!(state.excess(1), Some((2, [5].into_iter().collect())));
        assert!(state.excess(2).is_none());
        state.owners = [(1, set(0..128).without(&[5].into_iter().collect())), (2, set(128..255))].into();
        state.owners.entry(2).or_default().insert(255);
        state.owners.entry(2).or_default().insert(5);
        // The other host gets another one instead.
        assert_eq!(state.excess(2), Some((1, [128].into_iter().collect())));
        assert!(state.excess(1).is_none());
    }

    #[test]
    fn a_shard_of_a_host_that_ended_is_balanced() {
        let mut state = fleet(&[256, 0]);
        state.pinned.insert(1, ShardSet::ALL);
        assert!(state.excess(1).is_none());
        state.members[0].has_ended = true;
        assert!(state.excess(2).is_none());
        state.owners = [(2, ShardSet::ALL)].into();
        state.members.push(FleetHost { host: 3, has_ended: false, serves: true });
        assert_eq!(state.excess(2).map(|(to, given)| (to, given.len())), Some((3, 16)));
        state.members[0].has_ended = false;
        assert_eq!(state.excess(2), Some((1, set(0..16))), "its host is back");
    }

    /// Lets every host give until none has anything to give, and returns the numbers of shards.
    fn settle(mut state: FleetState) -> Vec<usize> {
        for _ in 0..100 {
            let hosts: Vec<i16> = state.serving().collect();
            let mut is_settled = true;
            for host in hosts {
                let Some((to, shards)) = state.excess(host) else { continue };
                is_settled = false;
                let [from, to] = [(host, state.of(host).without(&shards)), (to, state.of(to).with(&shards))];
                state.owners.extend([from, to]);
            }
            if is_settled {
                for (host, pinned) in &state.pinned {
                    assert!(pinned.without(&state.of(*host)).is_empty(), "host {host} has what was moved to it");
                }
                return state.owners.values().map(ShardSet::len).collect();
            }
        }
        panic!("shards are given without end: {state:?}");
    }

    #[test]
    fn giving_ends_with_equal_numbers_beside_what_is_pinned() {
        let mut state = fleet(&[256, 0, 0]);
        assert_eq!(settle(fleet(&[256, 0, 0])), [86, 86, 84]);
        state.pinned = [(1, set(0..10)), (2, set(10..30)), (3, set(200..201))].into();
        assert_eq!(settle(state), [86, 84, 86]);
        let mut state = fleet(&[20, 150, 86]);
        state.pinned = [(1, set(0..200))].into();
        assert_eq!(settle(state), [200, 28, 28]);
        let mut state = fleet(&[100, 100, 56]);
        state.pinned = [(2, set(0..120)), (3, set(120..240))].into();
        assert_eq!(settle(state), [16, 120, 120]);
        let mut state = fleet(&[100, 100, 56]);
        state.pinned = [(3, ShardSet::ALL)].into();
        assert_eq!(settle(state), [0, 0, 256]);
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
