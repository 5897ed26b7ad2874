//! Sessions of the pages and sign-in links in the database.

use super::Sqlite;
use super::batch::AdminTx;
use crate::StoreError;
use crate::audit::{Actor, AuditAction};
use crate::backend::access::{CredentialHash, EXPIRED, PER_KEY_MAX, SessionBackend};
use crate::catalog::Catalog;
use crate::fair_queue::Owner;
use async_trait::async_trait;
use hookloom_model::access::{ApiKey, Session};
use hookloom_model::clock::now_ms;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// Statements that delete up to ?2 sessions and links which expired before ?1.
const DELETE_EXPIRED: [&str; 2] = [
    "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires_at_ms < ?1 LIMIT ?2)",
    "DELETE FROM sign_in_links WHERE hash IN (SELECT hash FROM sign_in_links WHERE expires_at_ms < ?1 LIMIT ?2)",
];

#[async_trait]
impl SessionBackend for Sqlite {
    async fn put_session(
        &self,
        key: Arc<ApiKey>,
        hash: CredentialHash,
        session: Session,
        from: IpAddr,
    ) -> Result<(), StoreError> {
        let write = move |tx: &AdminTx<'_, '_>| {
            let Session { key: id, csrf, expires_at_ms } = &session;
            tx.prepare_cached(DELETE_EXPIRED[0])?.execute(params![now_ms(), EXPIRED])?;
            let sql =
                "INSERT INTO sessions (hash, key, csrf, created_at_ms, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
            tx.execute(sql, params![hash, id, csrf, now_ms(), expires_at_ms])?;
            let sql = "DELETE FROM sessions WHERE hash IN
                       (SELECT hash FROM sessions WHERE key = ?1 ORDER BY created_at_ms DESC, hash = ?2 DESC LIMIT -1 OFFSET ?3)
                       RETURNING hash";
            let mut statement = tx.prepare_cached(sql)?;
            let ended = statement.query_map(params![id, hash, PER_KEY_MAX], |row| row.get(0))?;
            let ended: Vec<[u8; 32]> = ended.collect::<Result<_, _>>()?;
            tx.record(&Actor::from(&*key), key.tenant.as_ref(), &AuditAction::SessionSignIn(from))?;
            Ok((session, ended))
        };
        let show = move |catalog: &Catalog, (session, ended): &(Session, Vec<[u8; 32]>)| {
            catalog.put_session(hash, session.clone());
            ended.iter().for_each(|old| catalog.remove_session(old));
        };
        self.change(Owner::Host, write, show).await.map(drop)
    }

    async fn delete_session(&self, hash: CredentialHash) -> Result<(), StoreError> {
        let write =
            move |tx: &AdminTx<'_, '_>| Ok(tx.execute("DELETE FROM sessions WHERE hash = ?1", [hash]).map(drop)?);
        self.change(Owner::Host, write, move |catalog: &Catalog, ()| catalog.remove_session(&hash)).await
    }

    async fn put_sign_in_link(
        &self,
        actor: Actor,
        key: ApiKey,
        hash: CredentialHash,
        expires_at_ms: i64,
    ) -> Result<(), StoreError> {
        let write = move |tx: &AdminTx<'_, '_>| {
            tx.prepare_cached(DELETE_EXPIRED[1])?.execute(params![now_ms(), EXPIRED])?;
            let sql = "INSERT INTO sign_in_links (hash, key, expires_at_ms) VALUES (?1, ?2, ?3)";
            tx.execute(sql, params![hash, key.id, expires_at_ms])?;
            let sql = "DELETE FROM sign_in_links WHERE hash IN
                       (SELECT hash FROM sign_in_links WHERE key = ?1 ORDER BY expires_at_ms DESC, hash = ?2 DESC LIMIT -1 OFFSET ?3)";
            tx.execute(sql, params![key.id, hash, PER_KEY_MAX])?;
            tx.record(&actor, None, &AuditAction::SignInLinkCreate(&key))
        };
        self.write(Owner::Host, write).await
    }

    async fn use_sign_in_link(&self, hash: CredentialHash) -> Result<Option<Uuid>, StoreError> {
        // Anybody may try, so an invalid link costs a read and no commit.
        let read = move |connection: &Connection| {
            Ok(connection.prepare_cached("SELECT 1 FROM sign_in_links WHERE hash = ?1")?.exists([hash])?)
        };
        if !self.readers.read(Owner::Host, read).await? {
            return Ok(None);
        }
        let write = move |tx: &AdminTx<'_, '_>| {
            let sql = "DELETE FROM sign_in_links WHERE hash = ?1 RETURNING key, expires_at_ms";
            let found = tx.query_row(sql, [hash], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()?;
            Ok(found.filter(|(_, expires_at_ms)| *expires_at_ms > now_ms()).map(|(key, _)| key))
        };
        self.write(Owner::Host, write).await
    }
}

pub(super) fn load(connection: &Connection) -> Result<Vec<([u8; 32], Session)>, StoreError> {
    let mut statement =
        connection.prepare("SELECT hash, key, csrf, expires_at_ms FROM sessions WHERE expires_at_ms > ?1")?;
    statement.query_map([now_ms()], session_row)?.map(|row| row.map_err(StoreError::from)).collect()
}

fn session_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<([u8; 32], Session)> {
    Ok((row.get(0)?, Session { key: row.get(1)?, csrf: row.get(2)?, expires_at_ms: row.get(3)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use hookloom_model::access::Scope;

    #[tokio::test]
    async fn a_sign_in_deletes_some_of_what_expired_and_looks_at_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _store_events) = Store::open(folder.path()).expect("a store");
        let (key, _) = store.create_key(Actor::Host, None, vec![Scope::Read], "k".into()).await.expect("a key");
        store.sqlite().write(Owner::Host, insert_expired).await.expect("expired ones");
        store.sign_in(Arc::new(key.clone()), IpAddr::from([127, 0, 0, 1])).await.expect("signed in");
        store.create_sign_in_link(Actor::Host, key).await.expect("a link");
        let left = store.sqlite().readers.read(Owner::Host, count_left).await.expect("counts");
        assert_eq!(left, [101 - EXPIRED; 2]);
    }

    fn count_left(connection: &Connection) -> Result<[usize; 2], StoreError> {
        let of = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, usize>(0));
        Ok([of("SELECT COUNT(*) FROM sessions")?, of("SELECT COUNT(*) FROM sign_in_links")?])
    }

    fn insert_expired(tx: &AdminTx<'_, '_>) -> Result<(), StoreError> {
        for number in 0..100_u8 {
            let sql = "INSERT INTO sessions (hash, key, csrf, created_at_ms, expires_at_ms) VALUES (?1, x'', '', 0, 1)";
            tx.execute(sql, [[number; 32]])?;
            tx.execute("INSERT INTO sign_in_links (hash, key, expires_at_ms) VALUES (?1, x'', 1)", [[number; 32]])?;
        }
        for sql in DELETE_EXPIRED {
            let mut plan = tx.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let steps = plan.query_map(params![1, 1], |row| row.get::<_, String>(3))?;
            let steps: Vec<String> = steps.collect::<Result<_, _>>()?;
            assert!(steps.iter().all(|step| !step.starts_with("SCAN ")), "{steps:?}");
        }
        Ok(())
    }
}
