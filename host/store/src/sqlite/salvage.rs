//! Read of a damaged table: returns the readable rows, and the keys of the others.
//!
//! # Theory of operation
//! The table is read from its beginning to the first damaged page, and from its end back to the last damaged page. For the rows
//! between, the keys are read from the table's indexes in the same way, and each row is read by its key. A row that could be read
//! is checked: types of columns, UTF-8, sizes of ids, and JSON in JSON columns.
//!
//! # Limits
//! A row that is in no readable index either is lost without a key; [`TableSalvage::has_gap`] says whether there may be such rows.
//! SQLite has no checksums: a changed byte in a text that stays well-formed is not detected.

use super::move_journal::PREFIX;
use crate::StoreError;
#[cfg(any(test, feature = "postgres"))]
use rusqlite::Params;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};
use serde::de::IgnoredAny;
use std::collections::HashSet;

/// Columns that hold JSON, by table.
const JSON: [(&str, &[&str]); 11] = [
    ("attempts", &["detail"]),
    ("bin_requests", &["head"]),
    ("bins", &["settings"]),
    ("deliveries", &["reason"]),
    ("events", &["payload"]),
    ("figures", &["figures"]),
    ("idempotency_keys", &["answer"]),
    ("keys", &["scopes"]),
    ("rollouts", &["earlier"]),
    ("subscriptions", &["settings", "pauses"]),
    ("tenants", &["alerts", "event_types", "limits_max", "egress"]),
];

/// Columns that hold ids of 16 bytes.
const IDS: [&str; 4] = ["id", "event", "subscription", "delivery"];

/// Description of a table for reading and writing.
pub(super) struct Table {
    pub(super) name: String,
    /// Columns with their declared types and whether they may be null, after the rowid if there is one.
    columns: Vec<Column>,
    /// Indices of the key's columns in [`Table::columns`].
    key: Vec<usize>,
    has_rowid: bool,
}

struct Column {
    name: String,
    declared: String,
    nullable: bool,
    is_json: bool,
}

/// Result of reading all rows of a table.
#[derive(Debug, Default)]
pub(super) struct TableSalvage {
    /// Number of undamaged rows.
    pub(super) whole: u64,
    /// Keys of damaged rows, as texts, with the reason.
    pub(super) lost: Vec<(String, String)>,
    /// True if there may be lost rows without a key.
    pub(super) has_gap: bool,
    /// First failure of a scan.
    pub(super) failure: Option<String>,
}

impl Table {
    /// Returns the tables of a database, by name, without those of the journal of a move.
    pub(super) fn all(connection: &Connection) -> Result<Vec<Table>, StoreError> {
        let sql = "SELECT name, sql LIKE '%WITHOUT ROWID%' FROM sqlite_schema
                   WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE ?1 || '%' AND substr(name, 1, length(?1)) <> ?1 ORDER BY name";
        let mut statement = connection.prepare(sql)?;
        let names = statement.query_map([PREFIX], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
        let names: Vec<(String, bool)> = names.collect::<Result<_, _>>()?;
        names.into_iter().map(|(name, without_rowid)| Table::of(connection, name, !without_rowid)).collect()
    }

    fn of(connection: &Connection, name: String, has_rowid: bool) -> Result<Table, StoreError> {
        let json = JSON.iter().find(|(table, _)| *table == name).map_or(&[][..], |(_, columns)| *columns);
        let sql = "SELECT name, type, \"notnull\", pk, SUM(pk > 0) OVER () FROM pragma_table_info(?1) ORDER BY cid";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([&name])?;
        let rowid = Column { name: "rowid".into(), declared: "INTEGER".into(), nullable: false, is_json: false };
        let mut columns: Vec<Column> = has_rowid.then_some(rowid).into_iter().collect();
        let mut key = Vec::new();
        while let Some(row) = rows.next()? {
            let column: String = row.get(0)?;
            let place: usize = row.get(3)?;
            let declared: String = row.get(1)?;
            let is_whole_key = place > 0 && row.get::<_, usize>(4)? == 1;
            if has_rowid && is_whole_key && declared == "INTEGER" {
                // Another name of the rowid.
                continue;
            }
            if place > 0 && !has_rowid {
                key.push((place, columns.len()));
            }
            let is_json = json.contains(&column.as_str());
            columns.push(Column { name: column, declared, nullable: !row.get::<_, bool>(2)?, is_json });
        }
        key.sort_unstable();
        let key = if has_rowid { vec![0] } else { key.into_iter().map(|(_, index)| index).collect() };
        Ok(Table { name, columns, key, has_rowid })
    }

    /// Returns the names of all columns, after the rowid.
    pub(super) fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    fn list(&self, of: &[usize], order: &str) -> String {
        let names: Vec<String> = of.iter().map(|index| format!("{}{order}", self.columns[*index].name)).collect();
        names.join(", ")
    }

    /// Returns the values of a row of which all columns are selected, or the reason why they are invalid.
    fn values(&self, row: &Row<'_>) -> Result<Vec<Value>, String> {
        let value = |(index, column): (usize, &Column)| {
            let value = row.get_ref(index).map_err(|error| hookloom_model::describe(&error))?;
            column.check(value).map_err(|what| format!("{}: {what}", column.name))
        };
        self.columns.iter().enumerate().map(value).collect()
    }

    fn key_of(&self, values: &[Value]) -> Vec<Value> {
        self.key.iter().map(|index| values[*index].clone()).collect()
    }

    /// Returns the text of a key. In a table whose primary key is the rowid, it names the rowid.
    fn label(&self, key: &[Value]) -> String {
        let texts: Vec<String> = key.iter().map(text).collect();
        if self.has_rowid { format!("rowid {}", texts.join(", ")) } else { texts.join(", ") }
    }
}

impl Column {
    /// Returns a value unchanged if it is valid in this column.
    fn check(&self, value: ValueRef<'_>) -> Result<Value, String> {
        let value = match (self.declared.as_str(), value) {
            (_, ValueRef::Null) if self.nullable => Value::Null,
            ("TEXT", ValueRef::Text(bytes)) => {
                let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
                Value::Text(text.to_owned())
            }
            ("BLOB", ValueRef::Blob(bytes)) if IDS.contains(&self.name.as_str()) && !matches!(bytes.len(), 0 | 16) => {
                return Err(format!("an id has 16 bytes, and this one has {}", bytes.len()));
            }
            ("BLOB", ValueRef::Blob(bytes)) => Value::Blob(bytes.to_vec()),
            // Earlier schemas stored this key as a text instead of a blob.
            ("TEXT", ValueRef::Blob(bytes)) if self.name == "order_key" => Value::Blob(bytes.to_vec()),
            ("INTEGER", ValueRef::Integer(number)) => Value::Integer(number),
            ("REAL", ValueRef::Real(number)) => Value::Real(number),
            ("REAL", ValueRef::Integer(number)) => Value::Integer(number),
            (declared, value) => return Err(format!("it is {} and the column is {declared}", value.data_type())),
        };
        let json = match &value {
            Value::Text(text) if self.is_json => text.as_bytes(),
            Value::Blob(bytes) if self.is_json => bytes,
            _ => return Ok(value),
        };
        serde_json::from_slice::<IgnoredAny>(json).map_err(|error| format!("it is not JSON: {error}"))?;
        Ok(value)
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => match <[u8; 16]>::try_from(bytes.as_slice()) {
            Ok(id) => uuid::Uuid::from_bytes(id).to_string(),
            Err(_) => hex::encode(bytes),
        },
    }
}

/// End of a table at which a scan begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Beginning,
    End,
}

/// Reads the rows of a table that `source` selects, in which the table has the name `t`, and calls `each` with them, as [`salvage`] does.
/// Returns the key and the fault of the first damaged row, if there is one.
#[cfg(any(test, feature = "postgres"))]
pub(super) fn read_selected(
    connection: &Connection,
    table: &Table,
    source: &str,
    params: impl Params,
    mut each: impl FnMut(Vec<Value>) -> Result<(), StoreError>,
) -> Result<Option<(String, String)>, StoreError> {
    let columns: Vec<String> = table.column_names().map(|name| format!("t.{name}")).collect();
    let mut statement = connection.prepare(&format!("SELECT {} FROM {source}", columns.join(", ")))?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        match table.values(row) {
            Ok(values) => each(values)?,
            Err(what) => {
                let key = table.key.iter().map(|index| row.get::<_, Value>(*index).unwrap_or(Value::Null));
                return Ok(Some((table.label(&key.collect::<Vec<_>>()), what)));
            }
        }
    }
    Ok(None)
}

/// Reads a table and calls `take` with each undamaged row, with the rowid first if there is one. A row may come twice.
pub(super) fn salvage(
    connection: &Connection,
    table: &Table,
    mut each: impl FnMut(Vec<Value>) -> Result<(), StoreError>,
) -> Result<TableSalvage, StoreError> {
    let mut salvaged = TableSalvage::default();
    let forward = scan(connection, table, From::Beginning, &mut salvaged, &mut each, None)?;
    let ScanEnd { last: first_end, failure: Some(failure) } = forward else { return Ok(salvaged) };
    salvaged.failure = Some(failure);
    let backward = scan(connection, table, From::End, &mut salvaged, &mut each, first_end.as_deref())?;
    salvaged.has_gap = true;
    // Rows between the two scans, each by its key.
    let mut seen: HashSet<String> = HashSet::new();
    for key in keys_of_indexes(connection, table)? {
        let is_after_first = first_end.as_ref().is_none_or(|first| compare(&key, first).is_gt());
        let is_before_last = backward.last.as_ref().is_none_or(|last| compare(&key, last).is_lt());
        if !(is_after_first && is_before_last && seen.insert(table.label(&key))) {
            continue;
        }
        match read_one(connection, table, &key) {
            Ok(Some(values)) => {
                salvaged.whole += 1;
                each(values)?;
            }
            Ok(None) => salvaged.lost.push((table.label(&key), "an index has it, and the table has not".into())),
            Err(what) => salvaged.lost.push((table.label(&key), what)),
        }
    }
    Ok(salvaged)
}

struct ScanEnd {
    /// Key of the last row that was read.
    last: Option<Vec<Value>>,
    failure: Option<String>,
}

/// Reads rows until the end, a damaged page, or the key at which another scan ended.
fn scan(
    connection: &Connection,
    table: &Table,
    from: From,
    salvaged: &mut TableSalvage,
    each: &mut impl FnMut(Vec<Value>) -> Result<(), StoreError>,
    until: Option<&[Value]>,
) -> Result<ScanEnd, StoreError> {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let order = if from == From::Beginning { "" } else { " DESC" };
    let columns = table.list(&all, "");
    let key = table.list(&table.key, order);
    let sql = format!("SELECT {columns} FROM {} NOT INDEXED ORDER BY {key}", table.name);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut scan = ScanEnd { last: None, failure: None };
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(scan),
            Err(error) => {
                scan.failure = Some(hookloom_model::describe(&error));
                return Ok(scan);
            }
        };
        match table.values(row) {
            Ok(values) => {
                let key = table.key_of(&values);
                if until.is_some_and(|until| compare(&key, until).is_le()) {
                    return Ok(scan);
                }
                scan.last = Some(key);
                salvaged.whole += 1;
                each(values)?;
            }
            Err(what) => {
                let key: Vec<Value> =
                    table.key.iter().map(|index| row.get::<_, Value>(*index).unwrap_or(Value::Null)).collect();
                salvaged.lost.push((table.label(&key), what));
            }
        }
    }
}

/// Returns the keys of a table's rows, as far as its indexes can be read from either end.
fn keys_of_indexes(connection: &Connection, table: &Table) -> Result<Vec<Vec<Value>>, StoreError> {
    let sql = "SELECT i.name, s.sql FROM pragma_index_list(?1) i LEFT JOIN sqlite_schema s ON s.name = i.name WHERE i.origin != 'pk' OR ?2";
    let mut statement = connection.prepare(sql)?;
    let indexes = statement.query_map(rusqlite::params![table.name, table.has_rowid], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
    })?;
    let indexes: Vec<(String, Option<String>)> = indexes.collect::<Result<_, _>>()?;
    let mut keys = Vec::new();
    for (index, sql) in indexes {
        let condition = sql.as_deref().and_then(|sql| sql.split_once(" WHERE ")).map(|(_, condition)| condition);
        let condition = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
        let columns: Vec<String> = index_columns(connection, &index)?;
        for order in ["", " DESC"] {
            let order: Vec<String> = columns.iter().map(|column| format!("{column}{order}")).collect();
            let by = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
            let sql = format!(
                "SELECT {} FROM {} INDEXED BY \"{index}\"{condition}{by}",
                table.list(&table.key, ""),
                table.name
            );
            // An index that does not support this query is skipped.
            let Ok(mut statement) = connection.prepare(&sql) else { continue };
            let width = table.key.len();
            let Ok(mut rows) = statement.query([]) else { continue };
            while let Ok(Some(row)) = rows.next() {
                let key: rusqlite::Result<Vec<Value>> = (0..width).map(|column| row.get(column)).collect();
                keys.extend(key.ok());
            }
        }
    }
    Ok(keys)
}

/// Returns the columns of an index, without expressions.
fn index_columns(connection: &Connection, index: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
    let columns = statement.query_map([index], |row| row.get::<_, Option<String>>(0))?;
    Ok(columns.collect::<Result<Vec<_>, _>>()?.into_iter().map_while(|column| column).collect())
}

fn read_one(connection: &Connection, table: &Table, key: &[Value]) -> Result<Option<Vec<Value>>, String> {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let conditions: Vec<String> = table
        .key
        .iter()
        .enumerate()
        .map(|(place, index)| format!("{} = ?{}", table.columns[*index].name, place + 1))
        .collect();
    let sql =
        format!("SELECT {} FROM {} NOT INDEXED WHERE {}", table.list(&all, ""), table.name, conditions.join(" AND "));
    let read = || -> rusqlite::Result<Option<Result<Vec<Value>, String>>> {
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(key))?;
        Ok(rows.next()?.map(|row| table.values(row)))
    };
    read().map_err(|error| hookloom_model::describe(&error))?.transpose()
}

/// Compares keys in the order of a tree: integers, then texts and blobs by their bytes.
fn compare(one: &[Value], other: &[Value]) -> std::cmp::Ordering {
    one.iter().map(sort_key).cmp(other.iter().map(sort_key))
}

/// Returns the kind, number and bytes of a value, which compare as SQLite compares values.
fn sort_key(value: &Value) -> (u8, i64, Vec<u8>) {
    match value {
        Value::Null => (0, 0, Vec::new()),
        Value::Integer(number) => (1, *number, Vec::new()),
        Value::Real(number) => (1, *number as i64, Vec::new()),
        Value::Text(text) => (2, 0, text.as_bytes().to_vec()),
        Value::Blob(bytes) => (3, 0, bytes.clone()),
    }
}
