//! Text of a query whose conditions depend on a filter.

use super::sql_param::SqlParam;

/// Query with its parameters.
pub(super) struct FilteredQuery<'p> {
    /// Text of the query.
    pub(super) sql: String,
    /// Values of `$1` and so on.
    pub(super) params: Vec<&'p (dyn SqlParam + Sync)>,
}

impl<'p> FilteredQuery<'p> {
    /// Begins with a text that uses the first parameters.
    pub(super) fn new(sql: impl Into<String>, params: &[&'p (dyn SqlParam + Sync)]) -> Self {
        FilteredQuery { sql: sql.into(), params: params.to_vec() }
    }

    /// Adds a text and the parameter at its end.
    pub(super) fn push(&mut self, sql: &str, value: &'p (dyn SqlParam + Sync)) {
        self.params.push(value);
        self.sql.push_str(&format!("{sql} ${}", self.params.len()));
    }

    /// Adds a text and the parameter at its end, if there is a value.
    pub(super) fn push_some<T>(&mut self, sql: &str, value: &'p Option<T>)
    where
        T: SqlParam + Sync,
    {
        if let Some(value) = value {
            self.push(sql, value);
        }
    }
}
