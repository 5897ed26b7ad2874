//! Errors of PostgreSQL, as errors of the store.

use crate::error::{DatabaseError, DatabaseFault, StoreError};
use tokio_postgres::error::{Error, SqlState};

/// Returns true if the server cannot be reached or no longer serves this host: the connection is lost, the server shuts down or
/// starts, has too many connections, or has become a standby.
pub(super) fn is_unreachable(error: &Error) -> bool {
    let Some(code) = error.code() else { return error.is_closed() || has_io_error(error) };
    // Class 08: connection exceptions; class 57P: the server ends or begins.
    code.code().starts_with("08")
        || code.code().starts_with("57P")
        || [SqlState::TOO_MANY_CONNECTIONS, SqlState::READ_ONLY_SQL_TRANSACTION].contains(code)
}

fn has_io_error(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    // A connection that took too long has no cause.
    error.to_string().starts_with("error connecting to server")
}

/// Returns the fault that an error is a sign of.
fn fault(error: &Error) -> DatabaseFault {
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => DatabaseFault::DiskFull,
        Some(code) if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) => DatabaseFault::Damage,
        _ => DatabaseFault::Other,
    }
}

/// Returns true if the server ended a statement because it took too long.
pub(super) fn is_too_slow(error: &StoreError) -> bool {
    is_state(error, &[SqlState::QUERY_CANCELED])
}

/// Returns the error of a pooler in transaction mode that the URL does not name.
pub(super) fn behind_pooler() -> StoreError {
    StoreError::DatabaseUnfit(
        "a pooler gives each transaction another session of the server; add pooler=transaction to the URL, or let the pooler work in session mode".to_owned(),
    )
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if is_unreachable(&error) {
            tracing::debug!(%error, "PostgreSQL cannot be reached");
            return StoreError::Unavailable;
        }
        // Sessions of other clients know other prepared statements than those of this host.
        const OF_ANOTHER_SESSION: [SqlState; 2] =
            [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
        if error.code().is_some_and(|code| OF_ANOTHER_SESSION.contains(code)) {
            return behind_pooler();
        }
        StoreError::Database(DatabaseError::new(fault(&error), error))
    }
}

/// Returns true if the server refused a statement with one of these codes.
pub(super) fn is_state(error: &StoreError, codes: &[SqlState]) -> bool {
    let StoreError::Database(error) = error else { return false };
    error.cause::<Error>().and_then(Error::code).is_some_and(|code| codes.contains(code))
}

/// Returns true if another host has taken over from this one.
pub(super) fn is_fenced(error: &StoreError) -> bool {
    let StoreError::Database(error) = error else { return false };
    error.cause::<Error>().and_then(Error::code).is_some_and(|code| code.code() == "HL001")
}

/// Returns true if the server has sent this error, so that it has not committed.
pub(super) fn is_answer(error: &DatabaseError) -> bool {
    error.cause::<Error>().is_some_and(|error| error.code().is_some())
}
