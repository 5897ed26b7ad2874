//! Tests that the journal names every changed row, and that a host removes an abandoned one.

use super::*;
use crate::Store;
use crate::sqlite::salvage::Table;

/// Tables that are not copied.
const NOT_COPIED: [&str; 2] = ["damage", "identity"];

/// Returns a folder with the database of a store, and a connection to it.
fn new_store() -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Store::open(folder.path()).expect("a store"));
    let connection = Connection::open(folder.path().join("hookloom.db")).expect("a database");
    (folder, connection)
}

fn entries(connection: &Connection) -> Vec<(i64, i64, String)> {
    let sql = "SELECT tbl, net, concat_ws(' ', k1, hex(k2), k3) FROM moving_journal ORDER BY seq";
    let mut statement = connection.prepare(sql).expect("a journal");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("entries");
    rows.collect::<rusqlite::Result<_>>().expect("entries")
}

/// A table that is new must have a journal, with its key if it grows with the history.
#[test]
fn every_table_has_a_journal_or_is_not_copied() {
    let (_folder, connection) = new_store();
    let tables: Vec<String> = Table::all(&connection).expect("tables").into_iter().map(|table| table.name).collect();
    let mut known: Vec<&str> = super::tables().map(|(name, _)| name).chain(NOT_COPIED).collect();
    known.sort_unstable();
    assert_eq!(tables, known);
    for (table, key) in JOURNALED {
        // A unique index of exactly these columns.
        let sql = "SELECT i.name FROM pragma_index_list(?1) i WHERE i.\"unique\" AND NOT i.partial
                   AND (SELECT group_concat(name) FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno)) = ?2";
        let columns = key.join(",");
        assert!(connection.prepare(sql).and_then(|mut sql| sql.exists([table, &columns])).expect("indexes"), "{table}");
    }
}

#[test]
fn each_change_has_an_entry_and_a_later_journal_has_none_of_the_earlier() {
    let (_folder, connection) = new_store();
    let first = begin(&connection).expect("a journal");
    let changes = "
        INSERT INTO attempts (tenant, delivery, number, detail) VALUES ('t', x'01', 7, '{}'), ('t', x'02', 8, '{}');
        UPDATE OR ROLLBACK attempts SET detail = '[]' WHERE number = 7;
        DELETE FROM attempts;
        INSERT OR REPLACE INTO ledgers (tenant) VALUES ('t');
        INSERT INTO attempts (tenant, delivery, number, detail) SELECT 't', x'01', 7, '{}' WHERE false ON CONFLICT DO NOTHING;";
    connection.execute_batch(changes).expect("changes");
    let [one, other] = ["t 01 7", "t 02 8"].map(str::to_owned);
    let expected = [(0, 1, one.clone()), (0, 1, other.clone()), (0, 0, one.clone()), (0, -1, one), (0, -1, other)];
    // A table that is copied whole.
    let expected = [&expected[..], &[(16, 1, String::new())]].concat();
    assert_eq!(entries(&connection), expected);
    assert_ne!(begin(&connection).expect("another journal"), first);
    assert_eq!(entries(&connection), []);
    remove(&connection).expect("removed");
    let left: i64 = connection
        .query_row("SELECT COUNT(*) FROM sqlite_schema WHERE name LIKE 'moving%'", [], |row| row.get(0))
        .expect("a number");
    assert_eq!(left, 0);
    connection.execute_batch(changes).expect("changes without a journal");
}

/// An entry with the new key alone would leave the row in the copy under the old one.
#[test]
fn an_update_of_a_key_has_entries_with_both_keys_in_every_table() {
    let (_folder, connection) = new_store();
    begin(&connection).expect("a journal");
    let version = "INSERT INTO plugin_versions (tenant, name, sha256, size, report, created_at_ms, created_by)
                   VALUES ('t', 'p', 'ab', 9, '{}', 5, 'admin');";
    connection.execute_batch(version).expect("a row");
    connection
        .execute_batch("UPDATE plugin_versions SET name = '.q', size = 8; UPDATE plugin_versions SET name = '.q'")
        .expect("updates");
    let [before, after] = ["p", ".q"].map(|name| format!("t {} ab", hex::encode_upper(name)));
    let (table, _) = journaled("plugin_versions").expect("a table");
    let table = i64::try_from(table).expect("a number");
    let mut found = entries(&connection);
    found[1..3].sort();
    let of_update = [(table, 0, after.clone()), (table, 0, before.clone())];
    assert_eq!(found, [&[(table, 1, before)], &of_update[..], &[(table, 0, after)]].concat());
    let sql = "SELECT tbl_name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'moving\\_%\\_rekey' ESCAPE '\\' ORDER BY 1";
    let mut tables = connection.prepare(sql).expect("a query");
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0)).expect("triggers").collect::<Result<_, _>>().expect("triggers");
    assert_eq!(tables, JOURNALED.map(|(table, _)| table));
}

#[tokio::test]
async fn a_host_removes_an_abandoned_journal_and_no_other() {
    let (folder, connection) = new_store();
    let lock = JournalLock::take(folder.path()).expect("a lock");
    assert!(matches!(JournalLock::take(folder.path()), Err(StoreError::Conflict(_))));
    begin(&connection).expect("a journal");
    // A host that starts while the journal is in use goes on with it.
    let (store, _) = Store::open(folder.path()).expect("a store");
    assert!(exists(&connection).expect("a look"));
    assert!(JournalLock::of_abandoned(folder.path()).is_none());
    // The process ends without removing it.
    drop(lock);
    let lock = JournalLock::of_abandoned(folder.path()).expect("nobody uses it");
    store.sqlite().remove_journal(lock).await.expect("removed");
    assert!(!exists(&connection).expect("a look"));
    // At the next start.
    begin(&connection).expect("a journal");
    drop(connection);
    drop(store);
    let (store, _) = Store::open(folder.path()).expect("a store");
    drop(store);
    let connection = Connection::open(folder.path().join("hookloom.db")).expect("a database");
    assert!(!exists(&connection).expect("a look"));
}
