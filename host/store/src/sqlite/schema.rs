//! Schema of the database, as numbered migrations. Each runs once, in one transaction, and is never edited after a release.
//!
//! # Guarantees
//! - A database of a newer host is refused.
//! - The tenant's id is the first column of the key of every table with data of tenants.

use crate::StoreError;
use crate::order_key::OrderKey;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

const MIGRATIONS: [&str; 27] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
    include_str!("schema_9.sql"),
    include_str!("schema_10.sql"),
    include_str!("schema_11.sql"),
    include_str!("schema_12.sql"),
    include_str!("schema_13.sql"),
    include_str!("schema_14.sql"),
    include_str!("schema_15.sql"),
    include_str!("schema_16.sql"),
    include_str!("schema_17.sql"),
    include_str!("schema_18.sql"),
    include_str!("schema_19.sql"),
    include_str!("schema_20.sql"),
    include_str!("schema_21.sql"),
    include_str!("schema_22.sql"),
    include_str!("schema_23.sql"),
    include_str!("schema_24.sql"),
    include_str!("schema_25.sql"),
    include_str!("schema_26.sql"),
    include_str!("schema_27.sql"),
];

/// Migrates a database to the newest schema.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > MIGRATIONS.len() {
        return Err(StoreError::NewerSchema { found, known: MIGRATIONS.len() });
    }
    if (1..MIGRATIONS.len()).contains(&found) {
        tracing::info!(
            from = found,
            to = MIGRATIONS.len(),
            "bringing the database to a newer schema; a large one takes minutes"
        );
    }
    define_functions(connection)?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Returns the number of the newest schema.
#[cfg(any(test, feature = "postgres"))]
pub(super) fn newest() -> usize {
    MIGRATIONS.len()
}

/// Creates the tables of a schema in an empty database.
pub(super) fn make(connection: &Connection, version: usize) -> Result<(), StoreError> {
    let known = MIGRATIONS.get(..version).ok_or(StoreError::NewerSchema { found: version, known: MIGRATIONS.len() })?;
    define_functions(connection)?;
    for migration in known {
        connection.execute_batch(migration)?;
    }
    Ok(connection.pragma_update(None, "user_version", version)?)
}

/// Defines SQL functions for migrations that SQLite does not have.
fn define_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("order_key_of", 1, flags, |call| {
        Ok(OrderKey::of_text(call.get_raw(0).as_str()?).0.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookloom_model::event_type::EventTypes;

    #[test]
    fn order_keys_of_an_older_database_get_a_fixed_size() {
        let mut connection = Connection::open_in_memory().expect("a database");
        let before = MIGRATIONS.iter().position(|sql| sql.contains("order_key_of")).expect("the migration");
        for migration in &MIGRATIONS[..before] {
            connection.execute_batch(migration).expect("an older schema");
        }
        connection.pragma_update(None, "user_version", before).expect("its number");
        let long = "9".repeat(250_000);
        for (id, entity) in [(1_u8, "57"), (2, "57"), (3, &long)] {
            let sql = "INSERT INTO events (tenant, id, name, module, entity_id, received_at_ms, fan_out, payload)
                       VALUES ('t', ?1, 'Contact is Updated', 'Contact', ?2, 0, 1, x'7b7d')";
            connection.execute(sql, rusqlite::params![[id], entity]).expect("an event");
            let sql = "INSERT INTO deliveries (tenant, id, event, subscription, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms, order_key)
                       VALUES ('t', ?1, ?1, x'05', 0, 0, 0, 0, 0, ?2)";
            connection.execute(sql, rusqlite::params![[id], format!("Contact/{entity}")]).expect("a delivery");
        }
        migrate(&mut connection).expect("migrated");
        let sql = "SELECT d.order_key, e.entity_id FROM deliveries d JOIN events e ON e.id = d.event ORDER BY d.id";
        let mut statement = connection.prepare(sql).expect("a query");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        let rows: Vec<(Vec<u8>, Option<String>)> = rows.collect::<Result<_, _>>().expect("rows");
        let known = (order_key("Contact/57"), Some("57".to_owned()));
        assert_eq!(rows, [known.clone(), known, (order_key(&format!("Contact/{long}")), None)]);
    }

    #[test]
    fn rollouts_in_an_older_log_of_changes_get_their_name() {
        let mut connection = Connection::open_in_memory().expect("a database");
        make(&connection, 21).expect("an older schema");
        let rows = "INSERT INTO changes VALUES ('t', x'01', 5, 'admin', 'plugin.trial', 'p', NULL, '{}');
            INSERT INTO changes VALUES ('t', x'02', 6, 'admin', 'plugin.end-trial', 'p', NULL, NULL);
            INSERT INTO changes VALUES ('t', x'03', 7, 'admin', 'plugin.activate', 'p', NULL, NULL);";
        connection.execute_batch(rows).expect("rows");
        migrate(&mut connection).expect("migrated");
        let mut statement = connection.prepare("SELECT action FROM changes ORDER BY id").expect("a query");
        let actions = statement.query_map([], |row| row.get(0)).expect("rows");
        let actions: Vec<String> = actions.collect::<Result<_, _>>().expect("actions");
        assert_eq!(actions, ["plugin.begin-rollout", "plugin.end-rollout", "plugin.activate"]);
    }

    #[test]
    fn events_of_an_older_database_keep_their_order_of_acceptance() {
        let mut connection = Connection::open_in_memory().expect("a database");
        make(&connection, 22).expect("an older schema");
        let insert = "INSERT INTO events (tenant, id, name, module, received_at_ms, fan_out, payload)
                      VALUES ('t', ?1, 'n', 'Contact', 0, 0, x'7b7d')";
        // The clock was set back between the first and the second.
        for id in [9_u8, 3, 5] {
            connection.execute(insert, [[id]]).expect("an event");
        }
        connection.execute("DELETE FROM events WHERE id = x'03'", []).expect("deleted");
        migrate(&mut connection).expect("migrated");
        connection.execute(insert, [[4_u8]]).expect("an event");
        let mut statement = connection.prepare("SELECT seq, id FROM events ORDER BY seq").expect("a query");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        let rows: Vec<(i64, Vec<u8>)> = rows.collect::<Result<_, _>>().expect("rows");
        assert_eq!(rows, [(1, vec![9]), (3, vec![5]), (4, vec![4])]);
        let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
        assert_eq!(check, "ok");
        assert!(connection.execute(insert, [[4_u8]]).is_err(), "an event has one row");
    }

    #[test]
    fn event_names_of_an_older_database_become_event_types() {
        let mut connection = Connection::open_in_memory().expect("a database");
        make(&connection, 23).expect("an older schema");
        let names =
            r#"{"Contact is Deleted": "Contact", "Opportunity is \"Lost\"": "Deal", "Contact is Created": "Contact"}"#;
        let insert = "INSERT INTO tenants (id, extra_event_names, created_at_ms) VALUES (?1, ?2, 0)";
        for (id, names) in [("t", names), ("u", "{}")] {
            connection.execute(insert, [id, names]).expect("a tenant");
        }
        migrate(&mut connection).expect("migrated");
        let mut statement = connection.prepare("SELECT event_types FROM tenants ORDER BY id").expect("a query");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        let found: Vec<String> = rows.collect::<Result<_, _>>().expect("texts");
        let types = r#"{"Contact is Deleted":{"module":"Contact"},"Opportunity is \"Lost\"":{"module":"Deal"}}"#;
        assert_eq!(found, [types, "{}"]);
        let read: EventTypes = serde_json::from_str(&found[0]).expect("event types");
        assert_eq!(read.iter().count(), 2);
    }

    fn order_key(text: &str) -> Vec<u8> {
        OrderKey::of_text(text).0.to_vec()
    }

    #[test]
    fn attempts_of_an_older_database_are_kept() {
        let mut connection = Connection::open_in_memory().expect("a database");
        for migration in &MIGRATIONS[..11] {
            connection.execute_batch(migration).expect("an older schema");
        }
        let row = "INSERT INTO attempts (tenant, delivery, number, detail) VALUES ('t', x'01', 2, '{\"number\":2}')";
        connection.execute(row, []).expect("an attempt");
        connection.pragma_update(None, "user_version", 11).expect("its number");
        migrate(&mut connection).expect("migrated");
        let sql = "SELECT rowid, detail FROM attempts WHERE tenant = 't' AND delivery = x'01' AND number = 2";
        let found: (i64, String) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("kept");
        assert_eq!(found, (1, "{\"number\":2}".to_owned()));
        assert!(connection.execute(row, []).is_err(), "an attempt has one row");
    }

    /// A search in a table without rowid reads whole rows on the way (see `schema_17.sql`), so only tables with small rows have
    /// none.
    #[test]
    fn tables_without_rowid_have_small_rows() {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate(&mut connection).expect("migrated");
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%WITHOUT ROWID' ORDER BY name";
        let mut statement = connection.prepare(sql).expect("a query");
        let names = statement.query_map([], |row| row.get(0)).expect("rows");
        let names: Vec<String> = names.collect::<Result<_, _>>().expect("names");
        // Texts of `figures` and `rollouts` are bounded: some hundred numbers, ten earlier versions. Tenants are few, and read at a start.
        let small =
            ["deliveries", "figures", "intake_tokens", "keys", "ledgers", "plugin_files", "plugins", "quarantine"];
        assert_eq!(names, [&small[..], &["rollouts", "sessions", "sign_in_links", "sweeps", "tenants"]].concat());
    }

    #[test]
    fn large_rows_of_an_older_database_are_kept() {
        let mut connection = Connection::open_in_memory().expect("a database");
        define_functions(&connection).expect("functions");
        for migration in &MIGRATIONS[..16] {
            connection.execute_batch(migration).expect("an older schema");
        }
        let rows = "INSERT INTO rejected_requests VALUES ('t', x'01', 5, 'no event', 0, x'7b');
            INSERT INTO bins VALUES ('b', 't', '{}', 5, 7);
            INSERT INTO bin_requests VALUES ('b', x'01', 5, '{}', x'7b');
            INSERT INTO changes VALUES ('', x'01', 5, 'admin', 'tenant.create', 't', NULL, '{}');
            INSERT INTO subscriptions VALUES ('t', x'01', '{}', x'00', 1, 'why', 6, 3, 5, 4);
            INSERT INTO plugin_versions VALUES ('t', 'p', 'ab', 9, '{}', 5, 'admin');
            INSERT INTO idempotency_keys VALUES ('t', 'k', x'ab', '[]', 5);";
        connection.execute_batch(rows).expect("rows");
        connection.pragma_update(None, "user_version", 16).expect("its number");
        migrate(&mut connection).expect("migrated");
        let check = |sql: &str| assert_eq!(connection.query_row(sql, [], |row| row.get(0)), Ok(1), "{sql}");
        check(
            "SELECT COUNT(*) FROM rejected_requests WHERE tenant = 't' AND id = x'01' AND body = x'7b' AND reason = 'no event'",
        );
        check(
            "SELECT COUNT(*) FROM bins b JOIN bin_requests r ON r.bin = b.id WHERE b.received = 7 AND r.body = x'7b'",
        );
        check("SELECT COUNT(*) FROM changes WHERE tenant = '' AND id = x'01' AND before IS NULL AND after = '{}'");
        check(
            "SELECT COUNT(*) FROM subscriptions WHERE (state, state_reason, paused_at_ms, generation, created_at_ms, failing_since_ms) = (1, 'why', 6, 3, 5, 4)",
        );
        check("SELECT COUNT(*) FROM plugin_versions WHERE (name, sha256, size, created_by) = ('p', 'ab', 9, 'admin')");
        check("SELECT COUNT(*) FROM idempotency_keys WHERE key = 'k' AND body_sha256 = x'ab' AND answer = '[]'");
    }
}
