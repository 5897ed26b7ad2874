//! Tests of migrations: hosts of two releases on one database, refusals, failures, and two starts at once.

use super::*;
use crate::postgres::fleet;
use crate::postgres::test_server::TestDatabase;
use crate::postgres::tests::{create, open, shows};
use crate::{Caps, NewEvent, Store};
use bytes::Bytes;
use hookloom_model::event::Module;
use hookloom_model::subscription::TenantId;
use std::path::Path;

const FIRST: Migration = MIGRATIONS[0];

/// Schema of the next release that only adds.
const EXPANSION: KnownSchemas = KnownSchemas(&[
    FIRST,
    Migration {
        sql: "ALTER TABLE events ADD COLUMN priority int8 NOT NULL DEFAULT 7; CREATE TABLE future (only_column text);",
        needs: 1,
        since: "9.0.0",
    },
]);

/// Schemas of the next two releases, of which the second one removes what the hosts of today need.
const CONTRACTION: KnownSchemas = KnownSchemas(&[
    FIRST,
    Migration { sql: "CREATE TABLE future (only_column text);", needs: 1, since: "9.0.0" },
    Migration { sql: "ALTER TABLE events RENAME COLUMN name TO title;", needs: 2, since: "9.1.0" },
]);

/// Schema of the next release, whose migration fails at its end.
const FAILING: KnownSchemas = KnownSchemas(&[
    FIRST,
    Migration { sql: "CREATE TABLE future (only_column text); SELECT 1 / 0;", needs: 1, since: "9.0.0" },
]);

/// Returns the schema of a database as text: its number, what it needs, and its relations.
async fn described(connection: &Connection) -> String {
    let sql = "SELECT (SELECT concat(schema, ' ', needs, ' ', needs_version) FROM host) || ': '
                 || (SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace)";
    connection.query_one(sql, &[]).await.expect(sql).get(0)
}

async fn number_of(connection: &Connection, sql: &str) -> i64 {
    connection.query_one(sql, &[]).await.expect(sql).get(0)
}

/// Accepts an event of a tenant.
async fn accept(store: &Store, tenant: &str) -> Result<(), StoreError> {
    let name = "Contact is Created".into();
    let event = NewEvent { name, module: Module::Contact, entity_id: None, payload: Bytes::from_static(b"{}") };
    store.accept(TenantId(tenant.into()), vec![event], Caps::NONE).await.map(drop)
}

fn text(error: &StoreError) -> String {
    hookloom_model::describe(error)
}

#[tokio::test]
async fn a_host_works_on_a_schema_that_only_adds_also_while_it_is_made() {
    let database = TestDatabase::new().await;
    let (first, _events) = open(&database.url(), &database.master_key()).await.expect("a store");
    create(&first, "a").await.expect("created");
    let connection = database.connect().await;
    let mut steps = Vec::new();
    let migrated = bring_up(&connection, EXPANSION, |step| steps.push(step)).await.expect("migrated");
    assert_eq!((migrated, steps), (Migrated { before: 1, schema: 2 }, vec![MigrationStep::Begins(2)]));
    assert!(described(&connection).await.starts_with("2 1 0.1.0: "), "{}", described(&connection).await);
    accept(&first, "a").await.expect("the host that runs goes on");
    // Another folder: another host.
    let other = tempfile::tempdir().expect("a folder");
    let key = other.path().join("master.key");
    std::fs::copy(database.master_key(), &key).expect("the same key");
    let (second, _events) = open(&database.url(), &key).await.expect("an older host starts on it as well");
    create(&second, "b").await.expect("created");
    accept(&second, "b").await.expect("accepted");
    assert_eq!(number_of(&connection, "SELECT count(*) FROM events WHERE priority = 7").await, 2);
    let again = bring_up(&connection, EXPANSION, |_| ()).await.expect("nothing to do");
    assert_eq!(again, Migrated { before: 2, schema: 2 });
    let state = schema_of_postgres(&database.url()).await.expect("a usable schema");
    assert_eq!(state, SchemaState { schema: 2, known: MIGRATIONS.len(), too_old: Vec::new() });
}

#[tokio::test]
async fn a_schema_that_a_host_cannot_use_is_refused_in_words() {
    let database = TestDatabase::new().await;
    bring_up(&database.connect().await, CONTRACTION, |_| ()).await.expect("migrated");
    let opened = open(&database.url(), &database.master_key()).await.map(drop);
    let version = env!("CARGO_PKG_VERSION");
    let known = MIGRATIONS.len();
    let expected = format!(
        "the database has schema 3, which needs Hookloom 9.0.0 or newer; this is Hookloom {version}, which knows schema {known}: start the newer one"
    );
    assert_eq!(text(&opened.expect_err("refused")), expected);
    let migrated = migrate_postgres(&database.url(), |_| ()).await.map(drop);
    assert_eq!(text(&migrated.expect_err("refused")), expected);
    assert_eq!(text(&schema_of_postgres(&database.url()).await.expect_err("refused")), expected);
}

#[tokio::test]
async fn live_hosts_that_could_not_use_a_schema_prevent_it_and_are_named() {
    let database = TestDatabase::new().await;
    let (store, _events) = open(&database.url(), &database.master_key()).await.expect("a store");
    create(&store, "a").await.expect("created");
    let connection = database.connect().await;
    let refused = bring_up(&connection, CONTRACTION, |_| ()).await.expect_err("a host runs");
    let host: String = connection.query_one("SELECT name FROM hosts", &[]).await.expect("a host").get(0);
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "the database has schema 2, and schema 3 would end hosts of an older version that run on it: {host} ({version}). Stop them first"
    );
    assert_eq!(text(&refused), expected);
    assert!(described(&connection).await.starts_with("2 1 "), "the expansion before was possible");
    accept(&store, "a").await.expect("the host goes on");
    let state = migration::show(&connection, CONTRACTION).await.expect("a state");
    assert_eq!(state.too_old, [format!("{host} ({version})")]);
}

#[tokio::test]
async fn a_host_that_lost_its_lease_before_a_migration_neither_writes_nor_registers() {
    let database = TestDatabase::new().await;
    let connection = database.connect().await;
    let identity = fleet::HostIdentity { id: uuid::Uuid::new_v4(), name: "asleep".to_owned() };
    let host = fleet::register(&connection, &identity, "").await.expect("registered");
    let write = format!("SELECT fence({}::int2, {}, '{}')", host.host, host.epoch, identity.id);
    connection.batch_execute(&write).await.expect("it may write");
    // It stands still for longer than its lease, and no other host has taken over.
    connection.batch_execute("UPDATE hosts SET lease_until = clock_timestamp()").await.expect("ended");
    bring_up(&connection, CONTRACTION, |_| ()).await.expect("migrated");
    let written = connection.batch_execute(&write).await;
    assert!(crate::postgres::error::is_fenced(&written.expect_err("fenced")));
    let registered = fleet::register(&connection, &identity, "").await;
    assert!(matches!(registered, Err(StoreError::SchemaTooNew { found: 3, .. })), "{registered:?}");
    assert_eq!(number_of(&connection, "SELECT count(*) FROM hosts WHERE lease_until > clock_timestamp()").await, 0);
}

#[tokio::test]
async fn a_migration_that_fails_changes_nothing() {
    let database = TestDatabase::new().await;
    let connection = database.connect().await;
    let before = described(&connection).await;
    let failed = bring_up(&connection, FAILING, |_| ()).await;
    assert!(matches!(failed, Err(StoreError::Database(_))), "{failed:?}");
    assert_eq!(described(&connection).await, before);
    // The connection goes on outside of the transaction, and no lock is left.
    bring_up(&database.connect().await, EXPANSION, |_| ()).await.expect("migrated");
}

/// Opens a store with the key of another folder.
async fn start(database: &TestDatabase, folder: &Path) -> Result<(), StoreError> {
    let key = folder.join("master.key");
    std::fs::copy(database.master_key(), &key).expect("the same key");
    open(&database.url(), &key).await.map(drop)
}

#[tokio::test]
async fn two_hosts_that_start_at_once_bring_an_older_schema_up_once() {
    let database = TestDatabase::new().await;
    let [first, second] = [database.connect().await, database.connect().await];
    let (one, two) = tokio::join!(bring_up(&first, CONTRACTION, |_| ()), bring_up(&second, EXPANSION, |_| ()));
    // Whichever comes first makes schema 2; only the one of the later release makes schema 3.
    assert_eq!(one.expect("migrated").schema, 3);
    assert!(two.is_ok_and(|migrated| migrated.schema >= 2), "schema 3 needs 2, which both know");
    assert_eq!(number_of(&first, "SELECT count(*) FROM pg_class WHERE relname = 'future'").await, 1);
}

#[tokio::test]
async fn two_hosts_that_start_at_once_on_an_empty_database_create_one_schema() {
    let database = TestDatabase::new().await;
    drop(open(&database.url(), &database.master_key()).await.expect("a store, which makes the key"));
    database.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    let [first, second] = [0, 1].map(|_| tempfile::tempdir().expect("a folder"));
    let (one, two) = tokio::join!(start(&database, first.path()), start(&database, second.path()));
    one.expect("started");
    two.expect("started");
    let connection = database.connect().await;
    assert_eq!(number_of(&connection, "SELECT count(*) FROM host").await, 1);
    assert_eq!(number_of(&connection, "SELECT count(*) FROM shards").await, 256);
}

#[tokio::test]
async fn an_account_that_may_not_create_tables_runs_on_those_of_another_one() {
    let database = TestDatabase::new().await;
    let connection = database.connect().await;
    let account = format!("limited_{}", std::process::id());
    let prepare = format!(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE ROLE {account} LOGIN; GRANT USAGE ON SCHEMA public TO {account}"
    );
    connection.batch_execute(&prepare).await.expect(&prepare);
    let url = database.url().replace("user=hookloom", &format!("user={account}"));
    let refused = open(&url, &database.master_key()).await.map(drop).expect_err("there are no tables");
    let expected = "the database has schema 0, and its account may not bring it to schema 1: run `hookloom migrate` with an account that owns the tables: ";
    assert!(text(&refused).starts_with(expected), "{}", text(&refused));
    migrate_postgres(&database.url(), |_| ()).await.expect("created by the owner");
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {account}");
    connection.batch_execute(&grant).await.expect(&grant);
    let (store, _events) = open(&url, &database.master_key()).await.expect("a store");
    create(&store, "a").await.expect("created");
    accept(&store, "a").await.expect("accepted");
    assert!(shows(&store, "a"));
}
