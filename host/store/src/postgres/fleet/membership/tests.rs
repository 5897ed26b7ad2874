//! Test of what a host may own after it has registered.

use super::*;
use crate::postgres::connection::config;
use crate::postgres::test_server::TestDatabase;
use uuid::Uuid;

#[tokio::test]
async fn a_host_owns_nothing_before_it_has_loaded_the_changes_that_did_not_wait_for_it() {
    let database = TestDatabase::new().await;
    let identity = HostIdentity { id: Uuid::new_v4(), name: "a".to_owned() };
    let host = Arc::new(HostState::new().0);
    let membership = Membership::new(config(&database.url()).expect("a URL"), identity, host);
    let registration = membership.register(&database.connect().await).await.expect("registered");
    fn at(generation: i64) -> FleetState {
        FleetState { generation, ..FleetState::default() }
    }
    membership.note_loaded(registration, 5);
    // A webhook was paused since, and the answer did not wait for this host.
    assert!(!membership.may_own(&at(7), registration));
    membership.note_loaded(registration, 6);
    assert!(!membership.may_own(&at(8), registration));
    membership.note_loaded(registration, 7);
    // Later changes wait for it.
    assert!(membership.may_own(&at(9), registration));
    let again = membership.register(&database.connect().await).await.expect("registered");
    assert!(!membership.may_own(&at(9), again), "the catalog was loaded under another registration");
}
