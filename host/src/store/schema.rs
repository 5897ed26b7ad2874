//! The tables, as numbered migrations. Each runs once, inside one transaction, and is never edited after a release.
//!
//! Promises: a database of a newer host is refused, not guessed at. Tenant id leads every key of what a tenant owns.

use super::StoreError;
use rusqlite::Connection;

const MIGRATIONS: [&str; 13] = [
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
];

/// Brings a database to the newest schema.
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
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
