//! Tests of leases.

use super::*;
use hookloom_model::clock::ManualClock;
use std::sync::Arc;

#[test]
fn an_ended_lease_is_not_renewed() {
    // The time since the boot begins with its first reading, which must not be that of the manual clock.
    clock::since_boot();
    let clock = Arc::new(ManualClock::at(0));
    let _entered = clock::enter(Some(clock.clone()));
    let lease_ms = u64::try_from(LEASE.as_millis()).expect("a short time");
    let mut tables = FleetTables::default();
    let first = tables.register(7);
    clock.pass(lease_ms - 1);
    assert!(tables.renew(first, Some(0), AttemptLoad::default()));
    assert_eq!(tables.lagging(2, 1), ["7"]);
    clock.pass(lease_ms);
    assert!(tables.lagging(2, 1).is_empty(), "changes do not wait for a host without a lease");
    assert!(!tables.renew(first, Some(0), AttemptLoad::default()), "it has not loaded the changes that did not wait");
    let again = tables.register(7);
    assert!(tables.renew(again, None, AttemptLoad::default()));
    assert!(!tables.renew(first, Some(0), AttemptLoad::default()), "it has registered again");
}
