//! Connection to the server, or to a pooler before it.
//!
//! # Guarantees
//! - A statement is prepared once for each connection. Behind a pooler in transaction mode, nothing is prepared: a statement is sent with
//!   the types and values of its parameters in one message, which the pooler passes to one session of the server.
//! - Nothing depends on the session: settings and locks are of a transaction, which the pooler does not divide.
//! - The connection ends when its last user drops it.
//!
//! # Limits
//! Texts of statements must be few: they are kept until the connection ends. Values are parameters.

use super::error;
use super::sql_param::SqlParams;
use super::tls;
use super::url_params::{TlsMode, UrlParams};
use crate::{DatabaseError, DatabaseFault, StoreError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Row, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Maximum time to connect, unless the URL says otherwise.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Time without an acknowledgement after which a connection is dead, unless the URL says otherwise.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Settings of a transaction with writes. A server that does not flush each commit would break the promise of `202`. The server ends a
/// transaction that this host leaves open, because other hosts may wait for it.
pub(super) const WRITE_SETTINGS: &str = "SET LOCAL idle_in_transaction_session_timeout = '2s';
     SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";

/// Settings of connections: address, account, time limits, TLS and pooler.
#[derive(Clone)]
pub(super) struct ConnectionConfig {
    postgres: Config,
    tls: MakeRustlsConnect,
    /// True behind a pooler in transaction mode.
    pub(super) is_pooled: bool,
}

/// Open connection.
pub(super) struct Connection {
    client: Client,
    tls: MakeRustlsConnect,
    is_pooled: bool,
    /// Empty behind a pooler.
    statements: Mutex<HashMap<String, Statement>>,
}

/// Returns the settings of connections from a URL such as `postgresql://user@host/database`.
pub(super) fn config(url: &str) -> Result<ConnectionConfig, StoreError> {
    let (url, UrlParams { mut tls, is_pooled }) = UrlParams::take_from(url)?;
    let mut config: Config = url.parse()?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_MAX);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_MAX);
    }
    if config.get_application_name().is_none() {
        config.application_name("hookloom");
    }
    // A server does not offer TLS on a local socket; libpq ignores `sslmode` there as well.
    let is_local =
        !config.get_hosts().is_empty() && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    if is_local {
        tls.mode = TlsMode::Disable;
    }
    config.ssl_mode(match tls.mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    Ok(ConnectionConfig { postgres: config, tls: tls::connector(&tls)?, is_pooled })
}

/// Returns the error of a connection that was refused or could not be made.
fn not_connected(error: tokio_postgres::Error) -> StoreError {
    tls::refusal(&error).unwrap_or_else(|| error.into())
}

/// Returns the addresses of a URL as text.
fn servers(config: &Config) -> String {
    let ports = config.get_ports();
    let one = |(index, host): (usize, &Host)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5_432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => folder.display().to_string(),
        }
    };
    config.get_hosts().iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
}

impl Connection {
    /// Connects, and refuses a server or a database that cannot be used.
    pub(super) async fn open(config: &ConnectionConfig) -> Result<Self, StoreError> {
        Connection::connect(config).await.map_err(not_connected)
    }

    /// Makes the first connection of a start, as [`Connection::open`] does, with an error for people.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] names the server and the cause.
    pub(super) async fn first(config: &ConnectionConfig) -> Result<Self, StoreError> {
        let connected = Connection::connect(config).await;
        connected.map_err(|error| match tls::refusal(&error) {
            None if error::is_unreachable(&error) => StoreError::Unreachable {
                server: servers(&config.postgres),
                source: DatabaseError::new(DatabaseFault::Other, error),
            },
            _ => not_connected(error),
        })
    }

    /// Connects as [`Connection::open`] does, and returns the texts of notifications as well.
    pub(super) async fn listening(
        config: &ConnectionConfig,
    ) -> Result<(Self, mpsc::UnboundedReceiver<String>), StoreError> {
        let connected = config.postgres.connect(config.tls.clone()).await;
        let (client, mut connection) = connected.map_err(not_connected)?;
        let (notify, notifications) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    // Nobody listens: the client is dropped as well, and the connection ends.
                    let _ = notify.send(notification.payload().to_owned());
                }
            }
        });
        Ok((Connection::new(client, config), notifications))
    }

    async fn connect(config: &ConnectionConfig) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.postgres.connect(config.tls.clone()).await?;
        tokio::spawn(async move {
            // The error is returned to the users of the connection as well.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        Ok(Connection::new(client, config))
    }

    fn new(client: Client, config: &ConnectionConfig) -> Self {
        let statements = Mutex::default();
        Connection { client, tls: config.tls.clone(), is_pooled: config.is_pooled, statements }
    }

    /// Refuses a pooler in transaction mode that the URL does not name: statements and settings of this host would get lost.
    ///
    /// # Errors
    /// [`StoreError::DatabaseUnfit`]: another connection has the session of this one, or this one has got another session.
    pub(super) async fn require_own_session(&self, config: &ConnectionConfig) -> Result<(), StoreError> {
        const SESSION: &str = "SELECT pg_backend_pid()";
        if self.is_pooled {
            return Ok(());
        }
        let first = self.last_row(SESSION).await?;
        let beside = Connection::open(config).await?;
        beside.batch_execute("BEGIN").await?;
        // A pooler gives it the session that was free last. If others were faster, this connection gets another one afterwards.
        let has_own = beside.last_row(SESSION).await? != first && self.last_row(SESSION).await? == first;
        if has_own { Ok(()) } else { Err(error::behind_pooler()) }
    }

    /// Returns true if the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Returns true behind a pooler in transaction mode.
    pub(super) fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// Asks the server to end the statement that runs, over another connection.
    pub(super) async fn cancel(&self) {
        if let Err(error) = self.client.cancel_token().cancel_query(self.tls.clone()).await {
            tracing::debug!(%error, "a query of PostgreSQL could not be cancelled");
        }
    }

    /// Runs a statement, and returns the number of rows that it changed.
    pub(super) async fn execute(&self, sql: &str, params: SqlParams<'_>) -> Result<u64, StoreError> {
        if self.is_pooled {
            return Ok(self.client.execute_typed(sql, &typed(params)).await?);
        }
        let statement = self.prepared(sql).await?;
        Ok(self.client.execute(&statement, &values(params)).await?)
    }

    /// Runs a query, and returns its rows.
    pub(super) async fn query(&self, sql: &str, params: SqlParams<'_>) -> Result<Vec<Row>, StoreError> {
        if self.is_pooled {
            return Ok(self.client.query_typed(sql, &typed(params)).await?);
        }
        let statement = self.prepared(sql).await?;
        Ok(self.client.query(&statement, &values(params)).await?)
    }

    /// Runs a query of at most one row.
    pub(super) async fn query_opt(&self, sql: &str, params: SqlParams<'_>) -> Result<Option<Row>, StoreError> {
        if self.is_pooled {
            return Ok(self.client.query_typed_opt(sql, &typed(params)).await?);
        }
        let statement = self.prepared(sql).await?;
        Ok(self.client.query_opt(&statement, &values(params)).await?)
    }

    /// Runs a query of exactly one row.
    pub(super) async fn query_one(&self, sql: &str, params: SqlParams<'_>) -> Result<Row, StoreError> {
        if self.is_pooled {
            return Ok(self.client.query_typed_one(sql, &typed(params)).await?);
        }
        let statement = self.prepared(sql).await?;
        Ok(self.client.query_one(&statement, &values(params)).await?)
    }

    /// Returns true if a query finds a row.
    pub(super) async fn exists(&self, sql: &str, params: SqlParams<'_>) -> Result<bool, StoreError> {
        Ok(!self.query(sql, params).await?.is_empty())
    }

    /// Begins a statement `COPY … FROM STDIN (FORMAT binary)` with columns of these types, in a transaction. It must be finished, or the
    /// transaction fails.
    pub(super) async fn copy(&self, sql: &str, types: &[Type]) -> Result<Pin<Box<BinaryCopyInWriter>>, StoreError> {
        // Behind a pooler, it is not kept: the driver lets the session forget it after the copy, in the same transaction.
        let statement = if self.is_pooled { self.client.prepare(sql).await? } else { self.prepared(sql).await? };
        Ok(Box::pin(BinaryCopyInWriter::new(self.client.copy_in(&statement).await?, types)))
    }

    /// Runs statements in a transaction that `begin` begins, and commits it. The first statement does not wait for the answer to `begin`.
    pub(super) async fn transaction<T>(
        &self,
        begin: &str,
        run: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let value = self.in_transaction(begin, run).await;
        if value.is_ok() {
            self.batch_execute("COMMIT").await?;
        } else {
            self.roll_back();
        }
        value
    }

    /// Runs queries in a transaction that `begin` begins. Nothing waits for its end: what follows on this connection runs after it.
    pub(super) async fn snapshot<T>(
        &self,
        begin: &str,
        run: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let value = self.in_transaction(begin, run).await;
        self.roll_back();
        value
    }

    /// Begins a transaction, and runs statements in it. If it does not begin, the server refuses them.
    async fn in_transaction<T>(
        &self,
        begin: &str,
        run: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (begun, value) = tokio::join!(biased; self.batch_execute(begin), run);
        begun.and(value)
    }

    /// Sends a rollback, without waiting for its answer.
    fn roll_back(&self) {
        let mut sent = pin!(self.batch_execute("ROLLBACK"));
        // The driver sends when it is polled first. If the connection is lost, the server rolls back by itself.
        let _ = sent.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Runs statements without parameters, separated by semicolons, in one message.
    pub(super) async fn batch_execute(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Runs statements without parameters, in one message, and returns the values of the last row as text.
    pub(super) async fn last_row(&self, sql: &str) -> Result<Vec<Option<String>>, StoreError> {
        let mut last = Vec::new();
        for message in self.client.simple_query(sql).await? {
            if let SimpleQueryMessage::Row(row) = message {
                last = (0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect();
            }
        }
        Ok(last)
    }

    async fn prepared(&self, sql: &str) -> Result<Statement, StoreError> {
        let known = self.statements.lock().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Returns parameters with their types.
fn typed<'p>(params: SqlParams<'p>) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
    params.iter().map(|param| (param.value(), param.sql_type())).collect()
}

/// Returns parameters without their types.
fn values<'p>(params: SqlParams<'p>) -> Vec<&'p (dyn ToSql + Sync)> {
    params.iter().map(|param| param.value()).collect()
}
