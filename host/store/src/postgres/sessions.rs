//! Sessions of the pages and sign-in links in the database.
//!
//! # Guarantees
//! - A sign-in deletes more of what has expired than it adds, and so does a new link, so that neither grows for ever.

use super::Postgres;
use super::connection::Connection;
use super::rows::{hash, int};
use super::transaction::WriteTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::access::{CredentialHash, EXPIRED, PER_KEY_MAX, SessionBackend};
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::access::{ApiKey, Session};
use hookloom_model::clock::now_ms;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// Statements that delete up to $2 sessions and links which expired before $1.
const DELETE_EXPIRED: [&str; 2] = [
    "DELETE FROM sessions WHERE hash IN
       (SELECT hash FROM sessions WHERE expires_at_ms < $1 ORDER BY expires_at_ms LIMIT $2)",
    "DELETE FROM sign_in_links WHERE hash IN
       (SELECT hash FROM sign_in_links WHERE expires_at_ms < $1 ORDER BY expires_at_ms LIMIT $2)",
];

#[async_trait]
impl SessionBackend for Postgres {
    async fn put_session(
        &self,
        key: Arc<ApiKey>,
        hash: CredentialHash,
        session: Session,
        from: IpAddr,
    ) -> Result<(), StoreError> {
        let written = self.change(
            Owner::Host,
            move |tx| {
                Box::pin(async move {
                    let ended = write_session(tx, hash, &session).await?;
                    let action = AuditAction::SessionSignIn(from);
                    tx.record(&Actor::from(&*key), key.tenant.as_ref(), &action).await?;
                    Ok((session, ended))
                })
            },
            move |catalog, (session, ended)| {
                catalog.put_session(hash, session.clone());
                ended.iter().for_each(|old| catalog.remove_session(old));
            },
        );
        written.await.map(drop)
    }

    async fn delete_session(&self, hash: CredentialHash) -> Result<(), StoreError> {
        self.change(
            Owner::Host,
            move |tx| {
                Box::pin(
                    async move { tx.execute("DELETE FROM sessions WHERE hash = $1", &[&&hash[..]]).await.map(drop) },
                )
            },
            move |catalog, ()| catalog.remove_session(&hash),
        )
        .await
    }

    async fn put_sign_in_link(
        &self,
        actor: Actor,
        key: ApiKey,
        hash: CredentialHash,
        expires_at_ms: i64,
    ) -> Result<(), StoreError> {
        self.write(Owner::Host, move |tx| {
            Box::pin(async move {
                write_link(tx, hash, key.id, expires_at_ms).await?;
                tx.record(&actor, None, &AuditAction::SignInLinkCreate(&key)).await
            })
        })
        .await
    }

    async fn use_sign_in_link(&self, hash: CredentialHash) -> Result<Option<Uuid>, StoreError> {
        // Anybody may try, so an invalid link costs a read and no commit.
        let exists = self.readers.read_one(Owner::Host, move |connection| {
            Box::pin(
                async move { connection.exists("SELECT 1 FROM sign_in_links WHERE hash = $1", &[&&hash[..]]).await },
            )
        });
        if !exists.await? {
            return Ok(None);
        }
        self.write(Owner::Host, move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM sign_in_links WHERE hash = $1 RETURNING key, expires_at_ms";
                let Some(row) = tx.query_opt(sql, &[&&hash[..]]).await? else { return Ok(None) };
                let expires_at_ms: i64 = row.try_get(1)?;
                Ok(if expires_at_ms > now_ms() { Some(row.try_get(0)?) } else { None })
            })
        })
        .await
    }
}

/// Stores a session, and deletes expired ones and the oldest ones of its key above the maximum. Returns the latter.
async fn write_session(
    tx: &WriteTx,
    new: CredentialHash,
    session: &Session,
) -> Result<Vec<CredentialHash>, StoreError> {
    let Session { key, csrf, expires_at_ms } = session;
    let now_ms = now_ms();
    tx.execute(DELETE_EXPIRED[0], &[&now_ms, &int(EXPIRED)]).await?;
    let sql = "INSERT INTO sessions (hash, key, csrf, created_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, &[&&new[..], key, csrf, &now_ms, expires_at_ms]).await?;
    // The new one is the last of its time.
    let sql = "DELETE FROM sessions WHERE hash IN
               (SELECT hash FROM sessions WHERE key = $1 ORDER BY created_at_ms DESC, (hash = $2) DESC, hash DESC OFFSET $3)
               RETURNING hash";
    let rows = tx.query(sql, &[key, &&new[..], &int(PER_KEY_MAX)]).await?;
    rows.iter().map(|row| hash(row, 0)).collect()
}

/// Stores a link, and deletes expired ones and the oldest ones of its key above the maximum.
async fn write_link(tx: &WriteTx, new: CredentialHash, key: Uuid, expires_at_ms: i64) -> Result<(), StoreError> {
    tx.execute(DELETE_EXPIRED[1], &[&now_ms(), &int(EXPIRED)]).await?;
    let sql = "INSERT INTO sign_in_links (hash, key, expires_at_ms) VALUES ($1, $2, $3)";
    tx.execute(sql, &[&&new[..], &key, &expires_at_ms]).await?;
    let sql = "DELETE FROM sign_in_links WHERE hash IN
               (SELECT hash FROM sign_in_links WHERE key = $1 ORDER BY expires_at_ms DESC, (hash = $2) DESC, hash DESC OFFSET $3)";
    tx.execute(sql, &[&key, &&new[..], &int(PER_KEY_MAX)]).await.map(drop)
}

/// Returns these sessions, or all, by the hash of their cookie, without those that have ended.
pub(super) async fn load(
    connection: &Connection,
    hashes: Option<&[Vec<u8>]>,
) -> Result<Vec<(CredentialHash, Session)>, StoreError> {
    let sql = "SELECT hash, key, csrf, expires_at_ms FROM sessions
               WHERE expires_at_ms > $1 AND ($2::bytea[] IS NULL OR hash = ANY ($2))";
    let rows = connection.query(sql, &[&now_ms(), &hashes]).await?;
    fn session(row: &Row) -> Result<(CredentialHash, Session), StoreError> {
        let session = Session { key: row.try_get(1)?, csrf: row.try_get(2)?, expires_at_ms: row.try_get(3)? };
        Ok((hash(row, 0)?, session))
    }
    rows.iter().map(session).collect()
}

#[cfg(test)]
mod tests {
    use super::super::test_server::TestDatabase;
    use super::*;

    use hookloom_model::access::Scope;

    /// Expired sessions and links of a key that is gone.
    const INSERT_EXPIRED: &str = "INSERT INTO sessions (hash, key, csrf, created_at_ms, expires_at_ms)
         SELECT decode(lpad(to_hex(i), 64, '0'), 'hex'), gen_random_uuid(), '', 0, i FROM generate_series(1, 100) i;
         INSERT INTO sign_in_links (hash, key, expires_at_ms)
         SELECT decode(lpad(to_hex(i), 64, '0'), 'hex'), gen_random_uuid(), i FROM generate_series(1, 100) i";

    #[tokio::test]
    async fn a_sign_in_deletes_what_expired_first_and_so_does_a_new_link() {
        let database = TestDatabase::new().await;
        let (store, _store_events) = database.open().await;
        let (key, _) = store.create_key(Actor::Host, None, vec![Scope::Read], "k".into()).await.expect("a key");
        let beside = database.connect().await;
        beside.batch_execute(INSERT_EXPIRED).await.expect("expired ones");
        store.sign_in(Arc::new(key.clone()), IpAddr::from([127, 0, 0, 1])).await.expect("signed in");
        store.create_sign_in_link(Actor::Host, key).await.expect("a link");
        for table in ["sessions", "sign_in_links"] {
            let sql = format!("SELECT count(*), min(expires_at_ms) FROM {table}");
            let row = beside.query_one(&sql, &[]).await.expect("a count");
            assert_eq!((row.get(0), row.get(1)), (101 - int(EXPIRED), 1 + int(EXPIRED)), "{table}");
        }
    }
}
