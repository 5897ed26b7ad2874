//! Due times that move with the clock, and ids that follow the newest stored ones.

use super::Sqlite;
use super::batch::AdminTx;
use crate::StoreError;
use crate::backend::lanes::AttemptClass;
use crate::backend::upkeep::{ClockBackend, ClockStep, DuePosition, STEP};
use crate::fair_queue::Owner;
use crate::write_queue::Terms;
use async_trait::async_trait;
use hookloom_model::clock::{self, now_ms};
use hookloom_model::ids;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use rusqlite::{Connection, params};
use std::time::Duration;
use uuid::Uuid;

#[async_trait]
impl ClockBackend for Sqlite {
    async fn move_due(
        &self,
        tenant: &TenantId,
        id: SubscriptionId,
        class: AttemptClass,
        step: ClockStep,
        after: DuePosition,
    ) -> Result<Option<(DuePosition, Duration)>, StoreError> {
        let owner = tenant.clone();
        let read = move |connection: &Connection| later_than(connection, &owner, id, class, after);
        let found = self.readers.read(Owner::Host, read).await?;
        let Some(last) = found.last().copied() else { return Ok(None) };
        let owner = tenant.clone();
        let write = move |tx: &AdminTx<'_, '_>| {
            let begun = clock::instant();
            // Rows written since the step have times of the corrected clock.
            let sql = "UPDATE deliveries SET due_at_ms = MAX(?3, due_at_ms - ?4), age_from_ms = MIN(age_from_ms, ?3),
                              settles_until_ms = MAX(?3, settles_until_ms - ?4)
                       WHERE tenant = ?1 AND id = ?2 AND state = 0 AND due_at_ms > ?3 AND NOT updated_at_ms BETWEEN ?3 AND ?5";
            let mut statement = tx.prepare_cached(sql)?;
            for (_, delivery) in found {
                statement.execute(params![&*owner.0, delivery, step.now_ms, step.back_ms, now_ms()])?;
            }
            Ok(clock::since(begun))
        };
        let terms = Terms { owner: tenant.into(), rows: STEP as u64 };
        let took = self.writer.write(terms, write, |_| {}).await?;
        Ok(Some((last, took)))
    }
}

/// Returns the next deliveries of a lane by due time, each with its due time.
fn later_than(
    connection: &Connection,
    tenant: &TenantId,
    subscription: SubscriptionId,
    class: AttemptClass,
    (due_at_ms, id): DuePosition,
) -> Result<Vec<DuePosition>, StoreError> {
    let sql = "SELECT due_at_ms, id FROM deliveries INDEXED BY deliveries_due
               WHERE tenant = ?1 AND subscription = ?2 AND state = 0 AND (attempts_made > 0) = ?3
                 AND due_at_ms >= ?4 AND (due_at_ms > ?4 OR id > ?5)
               ORDER BY due_at_ms, id LIMIT ?6";
    let mut statement = connection.prepare_cached(sql)?;
    let of = params![&*tenant.0, subscription.0, class as u8, due_at_ms, id, STEP];
    let found = statement.query_map(of, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Tables whose rows are listed and pruned in the order of their ids, and the statements that find their newest ids by an index.
const NEWEST: [(&str, &str); 5] = [
    ("events", "SELECT (SELECT MAX(id) FROM events WHERE tenant = tenants.id) FROM tenants"),
    ("deliveries", "SELECT (SELECT MAX(id) FROM deliveries WHERE tenant = tenants.id) FROM tenants"),
    ("rejected_requests", "SELECT (SELECT MAX(id) FROM rejected_requests WHERE tenant = tenants.id) FROM tenants"),
    ("bin_requests", "SELECT (SELECT MAX(id) FROM bin_requests WHERE bin = bins.id) FROM bins"),
    // The changes of the host itself have the tenant ''.
    (
        "changes",
        "SELECT (SELECT MAX(id) FROM changes WHERE tenant = owners.id)
         FROM (SELECT id FROM tenants UNION ALL SELECT '' AS id) AS owners",
    ),
];

/// Sets the minimum of new ids to the newest stored id. If it cannot be read, ids follow the clock.
pub(super) fn follow_newest(connection: &Connection) -> Result<(), StoreError> {
    for (table, sql) in NEWEST {
        match newest(connection, sql) {
            Ok(newest) => newest.into_iter().for_each(ids::follow),
            Err(error) if error.is_damage() => {
                tracing::error!(table, error = %hookloom_model::describe(&error), "the newest row cannot be read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn newest(connection: &Connection, sql: &str) -> Result<Vec<Uuid>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let newest = statement.query_map([], |row| row.get::<_, Option<Uuid>>(0))?;
    Ok(newest.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    #[test]
    fn new_ids_follow_every_kind_of_row_that_is_ordered_by_its_id() {
        let mut connection = Connection::open_in_memory().expect("a database");
        schema::migrate(&mut connection).expect("the schema");
        let ids: Vec<Uuid> = (0..NEWEST.len() + 1).map(|_| ids::new_uuid()).collect();
        let insert = |sql: &str, id: &Uuid| {
            connection.execute(sql, [id]).unwrap_or_else(|error| panic!("{sql}: {error}"));
        };
        let columns = "'t', ?1, 0, '', 0, x''";
        connection
            .execute("INSERT INTO tenants (id, event_types, created_at_ms) VALUES ('t', '{}', 0)", [])
            .expect("a tenant");
        connection
            .execute("INSERT INTO bins (id, tenant, settings, created_at_ms) VALUES ('b', 't', '{}', 0)", [])
            .expect("a bin");
        insert(
            "INSERT INTO events (tenant, id, name, module, received_at_ms, payload, fan_out) VALUES ('t', ?1, 'n', 'Contact', 0, x'', 1)",
            &ids[0],
        );
        insert(
            "INSERT INTO deliveries (tenant, id, event, subscription, state, due_at_ms, age_from_ms, created_at_ms, updated_at_ms) VALUES ('t', ?1, x'', x'', 1, 0, 0, 0, 0)",
            &ids[1],
        );
        insert(&format!("INSERT INTO rejected_requests VALUES ({columns})"), &ids[2]);
        insert("INSERT INTO bin_requests VALUES ('b', ?1, 0, '{}', x'')", &ids[3]);
        insert(
            "INSERT INTO changes (tenant, id, at_ms, who, action, subject) VALUES ('t', ?1, 0, '', '', '')",
            &ids[4],
        );
        insert("INSERT INTO changes (tenant, id, at_ms, who, action, subject) VALUES ('', ?1, 0, '', '', '')", &ids[5]);
        let mut found: Vec<Uuid> = NEWEST.iter().flat_map(|(_, sql)| newest(&connection, sql).expect("ids")).collect();
        found.sort();
        assert_eq!(found, ids);
    }
}
