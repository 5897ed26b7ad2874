//! Tests of `check` and `rescue` on a database with rows in every table, in which a page of each table and index is damaged in
//! turn.

use super::super::check::check_store;
use super::*;
use crate::{Actor, Store, TenantChange};
use hookloom_model::subscription::TenantId;
use rusqlite::OptionalExtension as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use uuid::Uuid;

const PAGE: u64 = 4_096;

/// Number of rows of each table: enough for several pages of each tree.
const ROWS: u32 = 400;

/// Writes rows into every table of the schema.
fn fill(folder: &Path) {
    let connection = Connection::open(folder.join("hookloom.db")).expect("a database");
    schema::make(&connection, schema::newest()).expect("the schema");
    connection.execute_batch("BEGIN").expect("a transaction");
    for table in Table::all(&connection).expect("tables") {
        let sql = "SELECT name, type, pk, (SELECT COUNT(*) FROM pragma_table_info(?1) WHERE pk > 0) FROM pragma_table_info(?1)";
        let mut statement = connection.prepare(sql).expect("columns");
        let columns = statement.query_map([&table.name], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, u32>(2)? > 0 && row.get::<_, u32>(3)? == 1))
        });
        let columns: Vec<(String, String, bool)> =
            columns.expect("columns").collect::<Result<_, _>>().expect("columns");
        let names: Vec<&str> = columns.iter().map(|(name, ..)| name.as_str()).collect();
        let places = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, names.join(", "));
        let mut insert = connection.prepare(&sql).expect("an insert");
        for number in 0..ROWS {
            let values =
                columns.iter().map(|(name, declared, is_key)| value(&table.name, name, declared, *is_key, number));
            insert.execute(params_from_iter(values)).expect("a row");
        }
    }
    connection.execute_batch("COMMIT").expect("committed");
    drop(connection);
    std::fs::write(folder.join("master.key"), [7; 32]).expect("a key");
}

/// Returns a value for a column. Texts are JSON, so that they are valid in all text columns.
fn value(table: &str, name: &str, declared: &str, is_key: bool, number: u32) -> Value {
    let text = format!("\"{name} {number:05} {}\"", "x".repeat(20));
    let payload = || format!("\"{number} {}\"", "y".repeat(120)).into_bytes();
    match (table, name, declared) {
        ("components", "sha256", _) => Value::Text(hex::encode(Sha256::digest(payload()))),
        (_, "tenant", _) if !is_key => Value::Text("t".into()),
        ("deliveries", "state", _) => Value::Integer(i64::from(if number.is_multiple_of(2) { 0 } else { number % 5 })),
        ("deliveries", "attempts_made", _) => Value::Integer(i64::from(number % 3)),
        ("deliveries" | "subscriptions", "subscription", _) => id_value(number % 7),
        (_, _, "INTEGER") => Value::Integer(i64::from(number)),
        (_, _, "REAL") => Value::Real(f64::from(number) + 0.5),
        (_, "id" | "event" | "subscription" | "delivery", "BLOB") => id_value(number),
        (_, _, "BLOB") => Value::Blob(payload()),
        _ => Value::Text(text),
    }
}

fn id_value(number: u32) -> Value {
    Value::Blob(Uuid::from_u128(u128::from(number) << 64 | 1).as_bytes().to_vec())
}

/// Tree of a database, with a page that has rows, and their number.
struct Tree {
    name: String,
    is_index: bool,
    page: u64,
    cells: u64,
}

/// Returns every table and index with a leaf from its middle.
fn trees(folder: &Path) -> Vec<Tree> {
    let connection = Connection::open(folder.join("hookloom.db")).expect("a database");
    let sql = "SELECT d.name, d.pageno, d.ncell, s.type = 'index' FROM dbstat d JOIN sqlite_schema s ON s.name = d.name
               WHERE d.pagetype = 'leaf' ORDER BY d.name, d.path";
    let mut statement = connection.prepare(sql).expect("pages");
    let mut leaves: BTreeMap<String, Vec<Tree>> = BTreeMap::new();
    for tree in statement.query_map([], tree_row).expect("pages") {
        let tree = tree.expect("a page");
        leaves.entry(tree.name.clone()).or_default().push(tree);
    }
    leaves.into_values().map(middle_leaf).collect()
}

fn middle_leaf(mut leaves: Vec<Tree>) -> Tree {
    let middle = leaves.len() / 2;
    leaves.swap_remove(middle)
}

fn tree_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Tree> {
    Ok(Tree { name: row.get(0)?, page: row.get(1)?, cells: row.get(2)?, is_index: row.get(3)? })
}

fn change(folder: &Path, page: u64, change: impl FnOnce(&mut [u8])) {
    let path = folder.join("hookloom.db");
    let mut bytes = std::fs::read(&path).expect("the database");
    let at = usize::try_from((page - 1) * PAGE).expect("a place");
    change(&mut bytes[at..at + 4_096]);
    std::fs::write(&path, bytes).expect("the database");
}

fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for file in ["hookloom.db", "master.key"] {
        std::fs::copy(folder.join(file), copy.path().join(file)).expect("a copy");
    }
    copy
}

/// Returns the number of rows of each table.
fn counts(folder: &Path) -> BTreeMap<String, u64> {
    let connection = Connection::open(folder.join("hookloom.db")).expect("a database");
    let count = |table: Table| {
        let sql = format!("SELECT COUNT(*) FROM {}", table.name);
        (table.name, connection.query_row(&sql, [], |row| row.get(0)).expect("a number"))
    };
    Table::all(&connection).expect("tables").into_iter().map(count).collect()
}

/// Rescues a folder, checks that the result is undamaged, and returns its rows by table with the report.
fn rescued(folder: &Path) -> (BTreeMap<String, u64>, RescueReport) {
    let parent = tempfile::tempdir().expect("a folder");
    let target = parent.path().join("rescued");
    let report = rescue(folder, &target, |_| ()).expect("rescued");
    let check = check_store(&target, |_| ()).expect("checked");
    assert!(check.whole, "{check:?}");
    (counts(&target), report)
}

#[test]
fn a_damaged_page_of_any_table_or_index_is_found_and_costs_only_its_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    let (before, complete) = rescued(folder.path());
    assert!(complete.is_complete(), "{complete:?}");
    for (table, rows) in counts(folder.path()).into_iter().filter(|(table, _)| table != "damage") {
        // Tenants and ledgers of the rows of others are added.
        assert!(before[&table] >= rows, "{table} has {rows} rows, and {} were rescued", before[&table]);
    }
    assert!(check_store(folder.path(), |_| ()).expect("checked").whole);
    let trees = trees(folder.path());
    let indexes = trees.iter().filter(|tree| tree.is_index).count();
    assert!(trees.len() - indexes == before.len() && indexes >= 15, "{indexes} of {}", trees.len());
    // Another kind of page, an empty page, and a changed bit in the number of its cells.
    let changes: [fn(&mut [u8]); 3] = [|page| page.fill(0xa5), |page| page.fill(0), |page| page[3] ^= 0x40];
    for (number, tree) in trees.into_iter().enumerate() {
        // Each tree is damaged in one way, and the largest tables in all ways.
        let all = ["events", "deliveries", "deliveries_due"].contains(&&*tree.name);
        for (index, what) in changes.into_iter().enumerate().filter(|(index, _)| all || *index == number % 3) {
            let copy = copy_of(folder.path());
            change(copy.path(), tree.page, what);
            let found = check_store(copy.path(), |_| ()).expect("checked");
            let named = found.pages.iter().any(|finding| finding.contains(&format!("{}:", tree.name)));
            assert!(!found.whole && named, "{} {index}: {:?}", tree.name, found.pages);
            let (after, report) = rescued(copy.path());
            let lost = |table: &str| before[table].saturating_sub(after[table]);
            for table in before.keys() {
                // Each tenant has a ledger, by which it comes back.
                let both = ["tenants", "ledgers"];
                let is_own = *table == tree.name || both.contains(&table.as_str()) && both.contains(&&*tree.name);
                let most = if is_own && !tree.is_index { tree.cells } else { 0 };
                assert!(lost(table) <= most, "{} {index}: {} of {table} are lost", tree.name, lost(table));
            }
            assert_eq!(report.is_complete(), tree.is_index, "{} {index}: {report:?}", tree.name);
        }
    }
}

#[test]
fn rows_that_are_lost_are_named_by_the_indexes_that_have_them() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    let tree = trees(folder.path()).into_iter().find(|tree| tree.name == "deliveries").expect("it");
    change(folder.path(), tree.page, |page| page.fill(0xff));
    let found = check_store(folder.path(), |_| ()).expect("checked");
    let table = found.tables.iter().find(|table| table.table == "deliveries").expect("it");
    assert_eq!((table.damaged.len() as u64, table.rows), (tree.cells, u64::from(ROWS) - tree.cells));
    assert!(table.damaged[0].key.starts_with("t, 0000"), "{}", table.damaged[0].key);
}

#[test]
fn a_value_that_is_malformed_is_found_and_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    let connection = Connection::open(folder.path().join("hookloom.db")).expect("a database");
    let sql = "UPDATE events SET payload = x'7b' WHERE rowid = 5;
               UPDATE subscriptions SET settings = CAST(x'22ff22' AS TEXT) WHERE created_at_ms = 6;
               UPDATE deliveries SET event = x'0102' WHERE created_at_ms = 7;
               UPDATE components SET bytes = x'00' WHERE rowid = 8;";
    connection.execute_batch(sql).expect("malformed");
    drop(connection);
    let found = check_store(folder.path(), |_| ()).expect("checked");
    let of = |table: &str| -> Vec<&str> {
        let table = found.tables.iter().find(|one| one.table == table).expect("it");
        table.damaged.iter().map(|row| row.reason.as_str()).collect()
    };
    assert!(of("events")[0].starts_with("payload: it is not JSON"), "{:?}", of("events"));
    assert_eq!(of("subscriptions"), ["settings: it is not UTF-8"]);
    assert_eq!(of("deliveries"), ["event: an id has 16 bytes, and this one has 2"]);
    assert!(
        found.relations.iter().any(|finding| finding.contains("its bytes have the sha256")),
        "{:?}",
        found.relations
    );
    let (after, report) = rescued(folder.path());
    let rows = u64::from(ROWS);
    assert_eq!([after["events"], after["subscriptions"], after["deliveries"], after["components"]], [rows - 1; 4]);
    assert_eq!(report.components_left_out.len(), 1);
}

#[test]
fn half_a_file_is_found_and_what_is_in_it_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    let path = folder.path().join("hookloom.db");
    let bytes = std::fs::metadata(&path).expect("a file").len();
    let half = std::fs::OpenOptions::new().write(true).open(&path).expect("a file");
    half.set_len(bytes / 2).expect("cut");
    drop(half);
    let found = check_store(folder.path(), |_| ()).expect("checked");
    assert!(found.files.iter().any(|finding| finding.contains("its end is missing")), "{:?}", found.files);
    let (after, report) = rescued(folder.path());
    let kept: u64 = after.values().sum();
    assert!(kept > 1_000 && !report.is_complete(), "{kept}");
}

#[test]
fn a_log_that_is_cut_off_gives_what_was_complete_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = tempfile::tempdir().expect("a folder");
    let connection = Connection::open(folder.path().join("hookloom.db")).expect("a database");
    connection.pragma_update(None, "journal_mode", "WAL").expect("a log");
    schema::make(&connection, schema::newest()).expect("the schema");
    for number in 0..20 {
        let sql = "INSERT INTO changes (tenant, id, at_ms, who, action, subject) VALUES ('', ?1, 0, '', '', ?2)";
        let id = Uuid::from_u128(number);
        connection.execute(sql, params![id, "s".repeat(3_000)]).expect("a change");
    }
    for file in ["hookloom.db", "hookloom.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).expect("a copy");
    }
    drop(connection);
    std::fs::write(copy.path().join("master.key"), [7; 32]).expect("a key");
    let log = std::fs::OpenOptions::new().write(true).open(copy.path().join("hookloom.db-wal")).expect("a log");
    log.set_len(log.metadata().expect("a log").len() - 100).expect("cut");
    drop(log);
    let found = check_store(copy.path(), |_| ()).expect("checked");
    assert!(found.whole && found.notes[0].contains("ends within a transaction"), "{found:?}");
    let (after, _) = rescued(copy.path());
    assert_eq!(after["changes"], 19);
}

#[test]
fn the_law_of_the_ledger_holds_for_what_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    for name in ["events", "deliveries"] {
        let tree = trees(folder.path()).into_iter().find(|tree| tree.name == name).expect("it");
        change(folder.path(), tree.page, |page| page.fill(0));
    }
    let target = folder.path().join("rescued");
    let report = rescue(folder.path(), &target, |_| ()).expect("rescued");
    assert!(report.deliveries_without_event > 0);
    let connection = Connection::open(target.join("hookloom.db")).expect("a database");
    let sql = "SELECT (SELECT SUM(fan_out) FROM events WHERE tenant = 't') + fan_out_pruned + replayed + tests
                    = (SELECT COUNT(*) FROM deliveries WHERE tenant = 't') + delivered_pruned + dropped_pruned + dead_pruned + cancelled_pruned
               FROM ledgers WHERE tenant = 't'";
    let holds: Option<bool> = connection.query_row(sql, [], |row| row.get(0)).optional().expect("a ledger");
    assert_eq!(holds, Some(true));
}

/// Returns a store that was started, with a damaged page of its database: in the table with the fingerprint of the master key, or
/// in another one.
async fn started(damaged: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _store_events) = Store::open(folder.path()).expect("a store");
    let tenant = TenantId("t".into());
    store.create_tenant(Actor::Host, tenant, TenantChange::default()).await.expect("a tenant");
    drop(store);
    let connection = Connection::open(folder.path().join("hookloom.db")).expect("a database");
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: u64 = connection.query_row(sql, [damaged], |row| row.get(0)).expect("a page");
    drop(connection);
    change(folder.path(), page, |page| page.fill(0xa5));
    folder
}

#[tokio::test]
async fn a_rescued_store_keeps_its_identity_or_gets_one() {
    for damaged in ["changes", "identity"] {
        let folder = started(damaged).await;
        // The host was killed: its log is needed, and missing.
        let run = folder.path().join("hookloom.db-run");
        let text = std::fs::read_to_string(&run).expect("a run");
        std::fs::write(&run, text.replace("closed", "open  ")).expect("a run");
        let target = folder.path().join("rescued");
        let report = rescue(folder.path(), &target, |_| ()).expect("rescued");
        assert!(!report.is_complete() && report.log_fault.as_ref().is_some_and(|fault| fault.contains("is missing")));
        assert!(check_store(folder.path(), |_| ()).expect("checked").files[0].contains("hookloom.db-wal is missing"));
        assert!(database_number(&target) != 0 && database_number(&target) != database_number(folder.path()));
        let key = std::fs::read(target.join("master.key")).expect("a key");
        // Another key is detected if the fingerprint was kept.
        std::fs::write(target.join("master.key"), [9; 32]).expect("another key");
        let with_other = Store::open(&target).map(|_| ());
        assert_eq!(with_other.is_err(), damaged != "identity", "{damaged}: {with_other:?}");
        if damaged == "identity" {
            continue;
        }
        std::fs::write(target.join("master.key"), key).expect("the key");
        let (store, _store_events) = Store::open(&target).expect("a start");
        assert!(store.catalog().tenant(&TenantId("t".into())).is_some());
    }
}

/// Number that identifies the database of a folder.
fn database_number(folder: &Path) -> u32 {
    let connection = Connection::open(folder.join("hookloom.db")).expect("a database");
    connection.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0)).expect("it").cast_unsigned()
}

#[tokio::test]
async fn the_log_of_another_database_is_left_out() {
    let folder = started("changes").await;
    let other = tempfile::tempdir().expect("a folder");
    let connection = Connection::open(other.path().join("other.db")).expect("a database");
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)").expect("a log");
    std::fs::copy(other.path().join("other.db-wal"), folder.path().join("hookloom.db-wal")).expect("a foreign log");
    let run = folder.path().join("hookloom.db-run");
    std::fs::write(&run, "00000007 00000007 closed\n").expect("a run of the other database");
    let found = check_store(folder.path(), |_| ()).expect("checked");
    assert!(found.files[0].contains("the log of another database"), "{:?}", found.files);
    let target = folder.path().join("rescued");
    let report = rescue(folder.path(), &target, |_| ()).expect("rescued");
    assert!(report.log_fault.is_some());
    let (store, _store_events) = Store::open(&target).expect("a start");
    assert!(store.catalog().tenant(&TenantId("t".into())).is_some());
}
