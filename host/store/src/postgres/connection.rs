//! Connection to the server, with the statements that it has prepared.
//!
//! # Guarantees
//! - A statement is prepared once for each connection.
//! - The connection ends when its last user drops it. A session lock that it held is released by the server then.
//!
//! # Limits
//! Texts of statements must be few: they are kept until the connection ends. Values are parameters.

use super::error;
use super::tls;
use super::tls_params::{TlsMode, TlsParams};
use crate::{DatabaseError, DatabaseFault, StoreError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
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

/// Parameters of a statement. Numbers are `i64`, states and kinds `i16`, texts `&str`, ids `Uuid`, bytes `&[u8]`.
pub(super) type SqlParams<'p> = &'p [&'p (dyn ToSql + Sync)];

/// Settings of connections: address, account, time limits and TLS.
#[derive(Clone)]
pub(super) struct ConnectionConfig {
    postgres: Config,
    tls: MakeRustlsConnect,
}

/// Open connection.
pub(super) struct Connection {
    client: Client,
    tls: MakeRustlsConnect,
    statements: Mutex<HashMap<String, Statement>>,
}

/// Returns the settings of connections from a URL such as `postgresql://user@host/database`.
pub(super) fn config(url: &str) -> Result<ConnectionConfig, StoreError> {
    let (url, mut tls) = TlsParams::take_from(url)?;
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
    Ok(ConnectionConfig { postgres: config, tls: tls::connector(&tls)? })
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

    /// Connects for the writer. The server ends a transaction that this host leaves open, because other hosts may wait for it.
    pub(super) async fn for_writes(config: &ConnectionConfig) -> Result<Self, StoreError> {
        let connection = Connection::open(config).await?;
        connection.prepare_for_writes().await?;
        Ok(connection)
    }

    /// Sets what [`Connection::for_writes`] needs. A server that does not flush each commit would break the promise of `202`.
    pub(super) async fn prepare_for_writes(&self) -> Result<(), StoreError> {
        let sql =
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
                   SET idle_in_transaction_session_timeout = '2s'";
        self.batch_execute(sql).await
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
        Ok((Connection { client, tls: config.tls.clone(), statements: Mutex::default() }, notifications))
    }

    async fn connect(config: &ConnectionConfig) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.postgres.connect(config.tls.clone()).await?;
        tokio::spawn(async move {
            // The error is returned to the users of the connection as well.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        Ok(Connection { client, tls: config.tls.clone(), statements: Mutex::default() })
    }

    /// Returns true if the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Asks the server to end the statement that runs, over another connection.
    pub(super) async fn cancel(&self) {
        if let Err(error) = self.client.cancel_token().cancel_query(self.tls.clone()).await {
            tracing::debug!(%error, "a query of PostgreSQL could not be cancelled");
        }
    }

    /// Runs a statement, and returns the number of rows that it changed.
    pub(super) async fn execute(&self, sql: &str, params: SqlParams<'_>) -> Result<u64, StoreError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.execute(&statement, params).await?)
    }

    /// Runs a query, and returns its rows.
    pub(super) async fn query(&self, sql: &str, params: SqlParams<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query(&statement, params).await?)
    }

    /// Runs a query of at most one row.
    pub(super) async fn query_opt(&self, sql: &str, params: SqlParams<'_>) -> Result<Option<Row>, StoreError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query_opt(&statement, params).await?)
    }

    /// Runs a query of exactly one row.
    pub(super) async fn query_one(&self, sql: &str, params: SqlParams<'_>) -> Result<Row, StoreError> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query_one(&statement, params).await?)
    }

    /// Returns true if a query finds a row.
    pub(super) async fn exists(&self, sql: &str, params: SqlParams<'_>) -> Result<bool, StoreError> {
        Ok(!self.query(sql, params).await?.is_empty())
    }

    /// Begins a statement `COPY … FROM STDIN (FORMAT binary)` with columns of these types. It must be finished, or the transaction fails.
    pub(super) async fn copy(&self, sql: &str, types: &[Type]) -> Result<Pin<Box<BinaryCopyInWriter>>, StoreError> {
        let statement = self.prepared(sql).await?;
        Ok(Box::pin(BinaryCopyInWriter::new(self.client.copy_in(&statement).await?, types)))
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
