//! Empty database, as the target of a move from another one.
//!
//! # Guarantees
//! - A database with rows of a store, or one that a host uses, is refused.
//! - All rows are written in one transaction. Until [`MoveTarget::commit`] has returned `Ok`, the tables are empty.
//! - Counters and numbers in the order of acceptance go on as in the source.
//!
//! # Theory of operation
//! Rows are written by binary `COPY` into tables that the same transaction has truncated. The triggers that count usage are disabled
//! meanwhile, and the counters are counted once after the copy. Deliveries are copied into their whole table, so that the server finds the
//! part for each: statement triggers of a part do not run then. All attempts are rows of `attempts`, also the one that ended a
//! delivery first, for which new deliveries have a column.
//!
//! # Limits
//! The indexes exist from the beginning. Without them, a large store would be copied faster, and their definitions would have to be
//! repeated here.

use super::connection::{self, Connection, ConnectionConfig};
use super::error::is_answer;
use super::rows::{corrupt, text};
use super::{fleet, move_checks, schema, usage};
use crate::StoreError;
use crate::table_rows::{RowPage, StoredValue};
use bytes::BytesMut;
use std::error::Error;
use std::pin::Pin;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

/// Open transaction on an empty database, which this process has locked.
pub(crate) struct MoveTarget {
    pub(super) connection: Connection,
    config: ConnectionConfig,
    /// Number by which the transaction is found after a lost answer.
    transaction: Uuid,
}

/// Column of a table.
#[derive(Clone, Debug)]
pub(crate) struct TargetColumn {
    pub(crate) name: String,
    sql_type: Type,
    nullable: bool,
    /// True if the database numbers the rows by this column.
    is_identity: bool,
}

/// Copied table, with what its next row needs.
pub(crate) struct NumberedTable<'t> {
    pub(crate) name: &'t str,
    pub(crate) columns: &'t [TargetColumn],
    /// Largest number of a row, or 0.
    pub(crate) last_number: i64,
}

/// Gives the counts of a rollout the column that they have in the source.
const WITH_COUNTS: &str = "ALTER TABLE rollouts ADD COLUMN counts text NOT NULL DEFAULT ''";

/// Moves the counts of rollouts to their table. They go on as those of the first host. Usage is counted in the moved rows of `ledgers`,
/// which are of no host.
const MOVE_COUNTS: &str = "SET LOCAL hookloom.host = 0;
     INSERT INTO rollout_counts (tenant, name, host, counts) SELECT tenant, name, 1, counts FROM rollouts WHERE counts <> '';
     ALTER TABLE rollouts DROP COLUMN counts";

impl MoveTarget {
    /// Begins the transaction, in which no host can start, and creates the tables if there are none.
    ///
    /// # Errors
    /// [`StoreError::DatabaseInUse`]: a host uses the database. [`StoreError::DatabaseUnfit`]: one of `tables` has rows.
    pub(crate) async fn open(url: &str, tables: &[&str]) -> Result<Self, StoreError> {
        let config = connection::config(url)?;
        let connection = Connection::first(&config).await?;
        connection.require_own_session(&config).await?;
        schema::begin(&connection).await?;
        // Limits of the server for statements of a host would end a long copy.
        let limits = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
        connection.batch_execute(limits).await?;
        schema::migrate(&connection).await?;
        if fleet::has_members(&connection).await? {
            return Err(StoreError::DatabaseInUse);
        }
        let all = list(tables);
        connection.batch_execute(&format!("LOCK TABLE {all} IN ACCESS EXCLUSIVE MODE")).await?;
        let filled = move_checks::tables_with_rows(&connection, tables).await?;
        if !filled.is_empty() {
            let found = format!("it has rows already, in {}; name an empty one", filled.join(", "));
            return Err(StoreError::DatabaseUnfit(found));
        }
        let mut prepare = format!("TRUNCATE {all} RESTART IDENTITY; {WITH_COUNTS}");
        for table in tables {
            prepare.push_str(&format!("; ALTER TABLE {} DISABLE TRIGGER USER", quoted(table)));
        }
        connection.batch_execute(&prepare).await?;
        Ok(MoveTarget { connection, config, transaction: Uuid::new_v4() })
    }

    /// Returns the columns of a table. Empty: there is no such table.
    pub(crate) async fn columns(&self, table: &str) -> Result<Vec<TargetColumn>, StoreError> {
        let sql = "SELECT attname::text, atttypid, NOT attnotnull, attidentity <> '' FROM pg_attribute
                   WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let rows = self.connection.query(sql, &[&quoted(table)]).await?;
        let columns = rows.iter().map(|row| {
            let sql_type = Type::from_oid(row.try_get(1)?).unwrap_or(Type::UNKNOWN);
            let nullable = row.try_get(2)?;
            Ok(TargetColumn { name: row.try_get(0)?, sql_type, nullable, is_identity: row.try_get(3)? })
        });
        columns.collect()
    }

    /// Begins to copy rows of these columns into an empty table.
    pub(crate) async fn copy_into(&self, table: &str, columns: Vec<TargetColumn>) -> Result<TableCopy, StoreError> {
        let sql = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)";
        let is_in_parts = self.connection.query_one(sql, &[&quoted(table)]).await?.try_get(0)?;
        // Rows that are frozen need no vacuum. A table in parts does not allow it.
        self.copy(table, columns, if is_in_parts { "" } else { ", FREEZE" }).await
    }

    /// Begins to copy rows of these columns into a table that may have others.
    pub(crate) async fn add_to(&self, table: &str, columns: Vec<TargetColumn>) -> Result<TableCopy, StoreError> {
        self.copy(table, columns, "").await
    }

    async fn copy(&self, table: &str, columns: Vec<TargetColumn>, option: &str) -> Result<TableCopy, StoreError> {
        let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        let sql = format!("COPY {} ({}) FROM STDIN (FORMAT binary{option})", quoted(table), list(&names));
        let types: Vec<Type> = columns.iter().map(|column| column.sql_type.clone()).collect();
        let writer = self.connection.copy(&sql, &types).await?;
        Ok(TableCopy { writer, columns, table: table.to_owned(), last_number: 0 })
    }

    /// Counts the rows of a table.
    pub(crate) async fn count(&self, table: &str) -> Result<u64, StoreError> {
        move_checks::count(&self.connection, &quoted(table)).await
    }

    /// Sums up what was copied, and makes statistics, so that [`MoveTarget::finish`] and changes need not read all rows.
    pub(crate) async fn settle(&self, tables: &[&str]) -> Result<(), StoreError> {
        usage::count_again(&self.connection).await?;
        move_checks::sum_up(&self.connection).await?;
        // Without statistics, the first queries of the host would read whole tables.
        self.connection.batch_execute(&format!("ANALYZE {}", list(tables))).await
    }

    /// Makes the tables ready for a host: the next numbers of rows, and triggers. Records the master key's fingerprint.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the ledger of a tenant does not add up.
    pub(crate) async fn finish(&self, tables: &[NumberedTable<'_>], master_key: &[u8]) -> Result<(), StoreError> {
        move_checks::require_balance(&self.connection).await?;
        self.connection.batch_execute(MOVE_COUNTS).await?;
        let mut sql = String::new();
        for NumberedTable { name, columns, last_number } in tables {
            let table = quoted(name);
            for column in columns.iter().filter(|column| column.is_identity) {
                let next = last_number.saturating_add(1);
                // Unlike `setval`, this is undone with the transaction.
                let column = quoted(&column.name);
                sql.push_str(&format!("ALTER TABLE {table} ALTER COLUMN {column} RESTART WITH {next}; "));
            }
            sql.push_str(&format!("ALTER TABLE {table} ENABLE TRIGGER USER; "));
        }
        self.connection.batch_execute(&sql).await?;
        self.connection.execute("UPDATE host SET master_key = $1", &[&master_key]).await?;
        // Of no host, so that no host counts it as its own.
        let sql = "INSERT INTO fences (host, epoch, transaction) VALUES (0, 0, $1)
                   ON CONFLICT (host) DO UPDATE SET transaction = EXCLUDED.transaction";
        self.connection.execute(sql, &[&self.transaction]).await?;
        Ok(())
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// [`StoreError::Unknown`]: the answer was lost, and the server cannot be asked. With every other error, nothing is committed.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let MoveTarget { connection, config, transaction } = self;
        let error = match connection.batch_execute("COMMIT").await {
            Ok(()) => return Ok(()),
            Err(StoreError::Database(error)) if is_answer(&error) => return Err(StoreError::Commit(error)),
            Err(error) => error,
        };
        drop(connection);
        let found = last_move(&config).await;
        match found {
            Ok(found) if found == Some(transaction) => Ok(()),
            Ok(_) => Err(error),
            Err(_) => Err(StoreError::Unknown),
        }
    }

    /// Undoes everything. If the connection is lost, the server does it.
    pub(crate) async fn roll_back(self) {
        self.connection.batch_execute("ROLLBACK").await.ok();
    }
}

/// Returns the last transaction of a move, when the one under way has ended.
async fn last_move(config: &ConnectionConfig) -> Result<Option<Uuid>, StoreError> {
    let connection = Connection::open(config).await?;
    schema::begin(&connection).await?;
    let known = "SELECT 1 WHERE to_regclass('fences') IS NOT NULL";
    if !connection.exists(known, &[]).await? {
        return Ok(None);
    }
    let row = connection.query_opt("SELECT transaction FROM fences WHERE host = 0", &[]).await?;
    Ok(row.map(|row| row.try_get::<_, Option<Uuid>>(0)).transpose()?.flatten())
}

/// Rows on their way into a table.
pub(crate) struct TableCopy {
    writer: Pin<Box<BinaryCopyInWriter>>,
    columns: Vec<TargetColumn>,
    table: String,
    /// Largest number of a row in the column by which the database numbers rows.
    last_number: i64,
}

impl TableCopy {
    /// Writes rows. `places` has the index of each column's value in a row.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]: a value is invalid in its column.
    pub(crate) async fn write(&mut self, page: &RowPage, places: &[usize]) -> Result<(), StoreError> {
        for row in page {
            let mut numbered = self.columns.iter().zip(places).filter(|(column, _)| column.is_identity);
            if let Some(StoredValue::Integer(number)) = numbered.next().map(|(_, place)| &row[*place]) {
                self.last_number = self.last_number.max(*number);
            }
            let cells = self.columns.iter().zip(places).map(|(column, place)| {
                let cell = cell(&row[*place], column);
                cell.ok_or_else(|| {
                    corrupt(format_args!("{}.{} has a value that is invalid there", self.table, column.name))
                })
            });
            let cells: Vec<Cell<'_>> = cells.collect::<Result<_, _>>()?;
            self.writer.as_mut().write_raw(cells.iter()).await?;
        }
        Ok(())
    }

    /// Ends the copy. Returns the largest number of a row, by which the database numbers rows, or 0.
    pub(crate) async fn finish(mut self) -> Result<i64, StoreError> {
        self.writer.as_mut().finish().await?;
        Ok(self.last_number)
    }
}

/// Value of the type of its column. None: null, which has every type.
#[derive(Debug)]
struct Cell<'v>(Option<Box<dyn ToSql + Sync + Send + 'v>>);

impl ToSql for Cell<'_> {
    fn to_sql(&self, sql_type: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.as_ref().map_or(Ok(IsNull::Yes), |value| value.to_sql_checked(sql_type, out))
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Returns a value as its column has it. None: it is invalid there.
fn cell<'v>(value: &'v StoredValue, column: &TargetColumn) -> Option<Cell<'v>> {
    let cell: Box<dyn ToSql + Sync + Send + 'v> = match (value, &column.sql_type) {
        (StoredValue::Null, _) if column.nullable => return Some(Cell(None)),
        (StoredValue::Integer(number), &Type::INT8) => Box::new(*number),
        (StoredValue::Integer(number), &Type::INT2) => Box::new(i16::try_from(*number).ok()?),
        (StoredValue::Integer(number), &Type::BOOL) => Box::new(*number != 0),
        (StoredValue::Integer(number), &Type::FLOAT8) => Box::new(*number as f64),
        (StoredValue::Real(number), &Type::FLOAT8) => Box::new(*number),
        (StoredValue::Text(value), &Type::TEXT) => Box::new(text(value)),
        (StoredValue::Bytes(bytes), &Type::BYTEA) => Box::new(&bytes[..]),
        // An empty id is the absence of one, for which a column of a key has the nil id.
        (StoredValue::Bytes(bytes), &Type::UUID) if bytes.is_empty() => Box::new((!column.nullable).then(Uuid::nil)),
        (StoredValue::Bytes(bytes), &Type::UUID) => Box::new(Uuid::from_slice(bytes).ok()?),
        (StoredValue::Bytes(bytes), &Type::UUID_ARRAY) => {
            Box::new(bytes.chunks(16).map(|id| Uuid::from_slice(id).ok()).collect::<Option<Vec<Uuid>>>()?)
        }
        _ => return None,
    };
    Some(Cell(Some(cell)))
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}
