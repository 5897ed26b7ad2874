//! Sessions of the pages and sign-in links in the database.

use super::Postgres;
use super::connection::Connection;
use super::rows::hash;
use crate::StoreError;
use crate::audit::Actor;
use crate::backend::access::CredentialHash;
use crate::backend::access::SessionBackend;
use async_trait::async_trait;
use hookloom_model::access::ApiKey;
use hookloom_model::access::Session;
use hookloom_model::clock::now_ms;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

#[async_trait]
impl SessionBackend for Postgres {
    async fn put_session(
        &self,
        key: Arc<ApiKey>,
        hash: CredentialHash,
        session: Session,
        from: IpAddr,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn delete_session(&self, hash: CredentialHash) -> Result<(), StoreError> {
        todo!()
    }

    async fn put_sign_in_link(
        &self,
        actor: Actor,
        key: ApiKey,
        hash: CredentialHash,
        expires_at_ms: i64,
    ) -> Result<(), StoreError> {
        todo!()
    }

    async fn use_sign_in_link(&self, hash: CredentialHash) -> Result<Option<Uuid>, StoreError> {
        todo!()
    }
}

/// Returns the sessions that have not ended, by the hash of their cookie.
pub(super) async fn load(connection: &Connection) -> Result<Vec<(CredentialHash, Session)>, StoreError> {
    let sql = "SELECT hash, key, csrf, expires_at_ms FROM sessions WHERE expires_at_ms > $1";
    let rows = connection.query(sql, &[&now_ms()]).await?;
    let session = |row: &Row| {
        let session = Session { key: row.try_get(1)?, csrf: row.try_get(2)?, expires_at_ms: row.try_get(3)? };
        Ok((hash(row, 0)?, session))
    };
    rows.iter().map(session).collect()
}
