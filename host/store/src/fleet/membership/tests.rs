//! Tests of what a host may own after it has registered.

use super::*;
use crate::ownership::shard_of;

#[test]
fn a_host_owns_nothing_before_it_has_loaded_the_changes_that_did_not_wait_for_it() {
    let membership = Membership::new(Arc::new(HostState::new().0));
    fn at(generation: i64) -> FleetState {
        FleetState { generation, ..FleetState::default() }
    }
    let first = Registration { host: 1, epoch: 1 };
    membership.registered(first);
    membership.note_loaded(first, 5);
    // A webhook was paused since, and the answer did not wait for this host.
    assert!(!membership.may_own(&at(7), first));
    membership.note_loaded(first, 6);
    assert!(!membership.may_own(&at(8), first));
    membership.note_loaded(first, 7);
    // Later changes wait for it.
    assert!(membership.may_own(&at(9), first));
    let again = Registration { epoch: 2, ..first };
    membership.registered(again);
    assert!(!membership.may_own(&at(9), again), "the catalog was loaded under another registration");
}

#[test]
fn what_was_read_under_an_earlier_registration_is_not_owned() {
    let membership = Membership::new(Arc::new(HostState::new().0));
    let [first, second] = [1, 2].map(|epoch| Registration { host: 1, epoch });
    let fleet = FleetState { owners: [(1, ShardSet::ALL)].into(), ..FleetState::default() };
    membership.registered(first);
    assert!(membership.follow(&fleet, first));
    membership.lapse(first);
    assert!(!membership.follow(&fleet, first));
    membership.registered(second);
    assert!(!membership.follow(&fleet, first));
    assert!(membership.host.claims.ownership.shards().is_empty());
    assert!(membership.follow(&fleet, second));
}

#[test]
fn claims_are_void_after_a_takeover_but_not_after_an_outage() {
    let membership = Membership::new(Arc::new(HostState::new().0));
    let claims = &membership.host.claims;
    membership.registered(Registration { host: 1, epoch: 1 });
    claims.ownership.add(ShardSet::ALL, ShardSet::default());
    let claim = claims.claim_new(crate::claims::tests::any_delivery()).expect("it is owned");
    membership.registered(Registration { host: 1, epoch: 2 });
    assert!(!claims.is_void(&claim));
    membership.registered(Registration { host: 1, epoch: 4 });
    assert!(claims.is_void(&claim));
}

#[test]
fn what_was_read_before_shards_were_given_is_not_owned() {
    let membership = Membership::new(Arc::new(HostState::new().0));
    let registration = Registration { host: 1, epoch: 1 };
    membership.registered(registration);
    let fleet = FleetState { owners: [(1, ShardSet::ALL)].into(), ..FleetState::default() };
    let given: ShardSet = [3, 4].into_iter().collect();
    membership.current.lock().given = given;
    assert!(membership.follow(&fleet, registration));
    assert_eq!(membership.host.claims.ownership.shards(), ShardSet::ALL.without(&given));
}

#[test]
fn a_shard_is_owned_again_when_the_claims_of_the_earlier_ownership_have_ended() {
    let membership = Membership::new(Arc::new(HostState::new().0));
    let claims = &membership.host.claims;
    let registration = Registration { host: 1, epoch: 1 };
    membership.registered(registration);
    let fleet = FleetState { owners: [(1, ShardSet::ALL)].into(), ..FleetState::default() };
    assert!(membership.follow(&fleet, registration));
    let delivery = crate::claims::tests::any_delivery();
    let shard: ShardSet = [shard_of(delivery.subscription)].into_iter().collect();
    let claim = claims.claim_new(delivery).expect("it is owned");
    // The shard was given away and came back, while an attempt was under way here.
    claims.disown(shard);
    assert!(!membership.follow(&fleet, registration), "an attempt of the earlier ownership may be under way");
    assert_eq!(claims.ownership.shards(), ShardSet::ALL.without(&shard));
    drop(claim);
    assert!(membership.follow(&fleet, registration));
    assert_eq!(claims.ownership.shards(), ShardSet::ALL);
}
