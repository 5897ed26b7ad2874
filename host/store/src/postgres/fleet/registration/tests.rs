//! Tests of registrations, departures and takeovers, without a writer.

use super::*;
use crate::postgres::fleet::shards;
use crate::postgres::test_server::TestDatabase;

fn identity(name: &str) -> HostIdentity {
    HostIdentity { id: Uuid::new_v4(), name: name.to_owned() }
}

/// Database with the connection of a test.
struct Fleet {
    connection: Connection,
    database: TestDatabase,
}

impl Fleet {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        Fleet { connection: database.connect().await, database }
    }

    async fn register(&self, identity: &HostIdentity) -> Registration {
        register(&self.connection, identity, "").await.expect("registered")
    }

    async fn number(&self, sql: &str) -> i64 {
        self.connection.query_one(sql, &[]).await.expect(sql).try_get(0).expect("a number")
    }

    async fn shards_of(&self, host: Registration) -> i64 {
        self.number(&format!("SELECT count(*) FROM shards WHERE owner = {}", host.host)).await
    }

    /// Shows that a host serves.
    async fn serve(&self, host: Registration, generation: i64) {
        let load = AttemptLoad { per_s: 2.5, under_way: 3 };
        assert!(renew(&self.connection, host, Some(generation), load).await.expect("renewed"), "it has a lease");
    }
}

#[tokio::test]
async fn the_last_host_leaves_its_shards_to_the_next_one_that_registers() {
    let fleet = Fleet::new().await;
    let first = fleet.register(&identity("first")).await;
    assert_eq!(fleet.shards_of(first).await, 256);
    leave(&fleet.connection, first).await.expect("left");
    assert_eq!(fleet.number("SELECT count(*) FROM hosts").await, 0);
    let next = fleet.register(&identity("next")).await;
    assert_eq!(fleet.shards_of(next).await, 256);
    assert!(next.epoch > first.epoch, "the first host can write no more");
}

#[tokio::test]
async fn a_host_that_leaves_gives_the_rest_to_the_others_that_serve() {
    let fleet = Fleet::new().await;
    let first = fleet.register(&identity("first")).await;
    let second = fleet.register(&identity("second")).await;
    assert_eq!(fleet.shards_of(second).await, 0);
    fleet.serve(second, 0).await;
    leave(&fleet.connection, first).await.expect("left");
    assert_eq!(fleet.shards_of(second).await, 256);
    assert_eq!(fleet.number("SELECT count(*) FROM shards WHERE taken_over_at IS NOT NULL").await, 256);
}

#[tokio::test]
async fn a_host_keeps_its_shards_for_one_that_has_not_begun_to_serve() {
    let fleet = Fleet::new().await;
    let first = fleet.register(&identity("first")).await;
    let second = fleet.register(&identity("second")).await;
    leave(&fleet.connection, first).await.expect("left");
    assert_eq!(fleet.shards_of(first).await, 256);
    fleet.serve(second, 0).await;
    assert!(take_over(&fleet.connection, second, first.host).await.expect("taken over"));
    assert_eq!(fleet.shards_of(second).await, 256);
}

#[tokio::test]
async fn a_host_that_stands_still_in_a_renewal_holds_up_no_takeover() {
    let fleet = Fleet::new().await;
    let first = fleet.register(&identity("first")).await;
    let second = fleet.register(&identity("second")).await;
    fleet.serve(second, 0).await;
    let sql = "UPDATE hosts SET lease_until = clock_timestamp() WHERE host = 1";
    assert_eq!(first.host, 1);
    fleet.connection.batch_execute(sql).await.expect("its lease has ended");
    let frozen = fleet.database.connect().await;
    frozen.batch_execute(&format!("BEGIN; {LIMITS}; {sql}")).await.expect("a lock on its row");
    assert!(take_over(&fleet.connection, second, first.host).await.expect("taken over"));
}

#[tokio::test]
async fn a_host_that_was_taken_over_is_lost_until_it_registers_again() {
    let fleet = Fleet::new().await;
    let first = identity("first");
    let lost = fleet.register(&first).await;
    let second = fleet.register(&identity("second")).await;
    fleet.serve(second, 0).await;
    let lost_hosts = "SELECT count(*) FROM lost_hosts WHERE name = 'first' AND host = 1";
    for _ in 0..2 {
        let ends = "UPDATE hosts SET lease_until = clock_timestamp() - interval '1 s' WHERE host = 1";
        fleet.connection.batch_execute(ends).await.expect("ended");
        assert!(take_over(&fleet.connection, second, lost.host).await.expect("taken over"));
        assert_eq!(fleet.number(lost_hosts).await, 1);
        assert!(!take_over(&fleet.connection, second, lost.host).await.expect("an answer"));
        assert_eq!(fleet.register(&first).await.host, lost.host);
        assert_eq!(fleet.number(lost_hosts).await, 0);
    }
    leave(&fleet.connection, second).await.expect("left");
    assert_eq!(fleet.number("SELECT count(*) FROM lost_hosts").await, 0, "a host that leaves is not lost");
}

#[tokio::test]
async fn a_shard_is_pinned_to_a_host_with_a_lease_whatever_its_number() {
    let fleet = Fleet::new().await;
    let identities = ["first", "second"].map(identity);
    let first = fleet.register(&identities[0]).await;
    let second = fleet.register(&identities[1]).await;
    let pinned = async || shards::read(&fleet.connection).await.expect("read").pinned;
    shards::pin(&fleet.connection, 5, Some(second.host)).await.expect("pinned");
    assert_eq!(pinned().await, [(2, [5].into_iter().collect())].into());
    let unknown = shards::pin(&fleet.connection, 5, Some(7)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("host"))), "{unknown:?}");
    // Both come back, and the one that registers first has the lower number.
    leave(&fleet.connection, second).await.expect("left");
    assert_eq!(pinned().await, [].into());
    leave(&fleet.connection, first).await.expect("left");
    assert_eq!(fleet.register(&identities[1]).await.host, 1);
    assert_eq!(pinned().await, [(1, [5].into_iter().collect())].into());
    let ends = "UPDATE hosts SET lease_until = clock_timestamp() WHERE host = 1";
    fleet.connection.batch_execute(ends).await.expect("ended");
    let ended = shards::pin(&fleet.connection, 6, Some(1)).await;
    assert!(matches!(ended, Err(StoreError::NotFound("host"))), "{ended:?}");
    shards::pin(&fleet.connection, 5, None).await.expect("released");
    assert_eq!(pinned().await, [].into());
}

#[tokio::test]
async fn an_old_change_is_kept_until_every_host_has_loaded_it() {
    let fleet = Fleet::new().await;
    let first = fleet.register(&identity("first")).await;
    let second = fleet.register(&identity("second")).await;
    let sql = "INSERT INTO fleet_changes (kind, tenant, made_at)
               SELECT 'tenant', 't', clock_timestamp() - interval '1 hour' FROM generate_series(1, 4)";
    fleet.connection.batch_execute(sql).await.expect("changes");
    let left = "SELECT count(*) FROM fleet_changes";
    fleet.serve(first, 4).await;
    fleet.serve(second, 2).await;
    forget_changes(&fleet.connection, Duration::from_secs(60)).await.expect("forgotten");
    assert_eq!(fleet.number(left).await, 2);
    fleet.serve(second, 4).await;
    forget_changes(&fleet.connection, Duration::from_secs(60)).await.expect("forgotten");
    assert_eq!(fleet.number(left).await, 1, "the last one is kept");
}
