//! Keys, intake tokens, sessions and sign-in links.

use super::test_store::{HOUR_MS, TestStore, tenant};
use super::test_values::operator;
use crate::{Actor, SESSION_LASTS, StoreError};
use futures_util::future::join_all;
use hookloom_model::access::{ApiKey, Scope, credential_hash};
use std::net::{IpAddr, Ipv4Addr};
use std::slice;
use std::sync::Arc;
use uuid::Uuid;

conformance! {
    a_key_is_known_by_its_text,
    a_given_admin_key_replaces_the_former_one,
    a_revoked_key_ends_its_sessions_and_links,
    the_last_use_of_a_key_is_kept,
    a_token_is_known_by_its_text,
    a_rotated_token_replaces_the_former_one,
    a_session_ends_by_signing_out,
    a_session_ends_by_its_age,
    a_key_has_a_limited_number_of_sessions,
    a_sign_in_link_is_used_once,
    a_sign_in_link_expires,
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn key(store: &TestStore) -> (Arc<ApiKey>, String) {
    let created = store.create_key(operator(), Some(tenant()), vec![Scope::Read, Scope::Send], "key".into()).await;
    let (key, text) = created.expect("a key");
    (Arc::new(key), text)
}

fn is_signed_in(store: &TestStore, cookie: &str) -> bool {
    store.catalog().session(&credential_hash(cookie)).is_some()
}

async fn a_key_is_known_by_its_text(store: &mut TestStore) {
    let (made, text) = key(store).await;
    let (admin, _) = store.create_key(operator(), None, Vec::new(), "admin".into()).await.expect("a key");
    for _ in 0..2 {
        let found = store.catalog().key(&credential_hash(&text)).expect("the key");
        assert_eq!(*found, *made);
        assert_eq!(store.catalog().keys(None), [Arc::new(admin.clone())]);
        assert_eq!(store.catalog().keys(Some(&tenant())), slice::from_ref(&made));
        assert!(store.catalog().key(&credential_hash("another text")).is_none());
        store.reopen().await;
    }
    let wrong = store.revoke_key(operator(), None, made.id).await;
    assert!(matches!(wrong, Err(StoreError::NotFound("key"))), "it is not an admin key: {wrong:?}");
}

async fn a_given_admin_key_replaces_the_former_one(store: &mut TestStore) {
    for text in ["the-first-key", "the-second-key", "the-second-key"] {
        store.give_admin_key(text).await.expect("given");
        assert_eq!(store.catalog().keys(None).len(), 1);
        assert!(store.catalog().key(&credential_hash(text)).is_some());
    }
    store.reopen().await;
    assert!(store.catalog().key(&credential_hash("the-first-key")).is_none());
    assert!(store.catalog().key(&credential_hash("the-second-key")).is_some_and(|key| key.is_admin()));
}

async fn a_revoked_key_ends_its_sessions_and_links(store: &mut TestStore) {
    let (revoked, text) = key(store).await;
    let (kept, _) = key(store).await;
    let cookies = [&revoked, &kept].map(|key| store.sign_in(key.clone(), HERE));
    let cookies = join_all(cookies).await.into_iter().map(|cookie| cookie.expect("signed in"));
    let cookies: Vec<String> = cookies.collect();
    let link = store.create_sign_in_link(operator(), ApiKey::clone(&revoked)).await.expect("a link");
    store.revoke_key(operator(), Some(tenant()), revoked.id).await.expect("revoked");
    for _ in 0..2 {
        assert!(store.catalog().key(&credential_hash(&text)).is_none());
        assert_eq!([0, 1].map(|index: usize| is_signed_in(store, &cookies[index])), [false, true]);
        store.reopen().await;
    }
    assert_eq!(store.use_sign_in_link(&link).await.expect("no key"), None);
    let again = store.revoke_key(operator(), Some(tenant()), revoked.id).await;
    assert!(matches!(again, Err(StoreError::NotFound("key"))), "{again:?}");
}

async fn the_last_use_of_a_key_is_kept(store: &mut TestStore) {
    let (used, _) = key(store).await;
    let (unused, _) = key(store).await;
    let keys = [used.clone(), unused.clone()];
    assert!(store.keys_used_at_ms(&keys).await.expect("times").is_empty());
    store.pass(1_000);
    store.catalog().note_used(used.id);
    let at_ms = store.now_ms();
    store.flush_used_keys().await.expect("written");
    store.seam().note_keys_used(vec![(Uuid::nil(), 5)]).await.expect("a key that is gone is left out");
    store.reopen().await;
    let times = store.keys_used_at_ms(&keys).await.expect("times");
    assert_eq!((times.len(), times.get(&used.id)), (1, Some(&at_ms)));
}

async fn a_token_is_known_by_its_text(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    let (token, text) = store.create_token(operator(), tenant(), "shop".into()).await.expect("a token");
    store.reopen().await;
    assert_eq!(*store.catalog().token(&credential_hash(&text)).expect("the token"), token);
    let foreign = store.revoke_token(operator(), other, token.id).await;
    assert!(matches!(foreign, Err(StoreError::NotFound("intake token"))), "{foreign:?}");
    store.revoke_token(operator(), tenant(), token.id).await.expect("revoked");
    for _ in 0..2 {
        assert!(store.catalog().token(&credential_hash(&text)).is_none());
        store.reopen().await;
    }
}

async fn a_rotated_token_replaces_the_former_one(store: &mut TestStore) {
    let (old, old_text) = store.create_token(operator(), tenant(), "shop".into()).await.expect("a token");
    let (new, text) = store.rotate_token(operator(), tenant(), old.id).await.expect("rotated");
    assert_eq!((&*new.label, new.id != old.id), ("shop", true));
    for _ in 0..2 {
        assert!(store.catalog().token(&credential_hash(&old_text)).is_none());
        assert!(store.catalog().token(&credential_hash(&text)).is_some());
        store.reopen().await;
    }
    let again = store.rotate_token(operator(), tenant(), old.id).await;
    assert!(matches!(again, Err(StoreError::NotFound("intake token"))), "{again:?}");
    let entries = store.changes(Some(tenant()), None, 9).await.expect("changes").0;
    assert_eq!(entries[0].action, "intake-token.rotate");
    assert_eq!(entries[0].after.as_ref().expect("a state")["id"], new.id.to_string());
}

async fn a_session_ends_by_signing_out(store: &mut TestStore) {
    let (key, _) = key(store).await;
    let one = store.sign_in(key.clone(), HERE).await.expect("signed in");
    let two = store.sign_in(key.clone(), HERE).await.expect("signed in");
    store.reopen().await;
    let (_, signer) = store.catalog().session(&credential_hash(&one)).expect("a session");
    assert_eq!(signer.id, key.id);
    store.sign_out(&one).await.expect("signed out");
    for _ in 0..2 {
        assert!(!is_signed_in(store, &one) && is_signed_in(store, &two));
        store.reopen().await;
    }
    store.sign_out(&one).await.expect("nothing to do");
    let entries = store.changes(Some(tenant()), None, 9).await.expect("changes").0;
    assert_eq!((&*entries[0].action, &*entries[0].subject), ("session.sign-in", "127.0.0.1"));
    assert_eq!(entries[0].who, Actor::from(&*key).shown());
}

async fn a_session_ends_by_its_age(store: &mut TestStore) {
    let (key, _) = key(store).await;
    let cookie = store.sign_in(key.clone(), HERE).await.expect("signed in");
    let lasts_ms = i64::try_from(SESSION_LASTS.as_millis()).expect("a time");
    store.pass(lasts_ms - 1_000);
    assert!(is_signed_in(store, &cookie));
    store.pass(2_000);
    assert!(!is_signed_in(store, &cookie));
    store.reopen().await;
    assert!(!is_signed_in(store, &cookie));
    let other = store.sign_in(key, HERE).await.expect("signed in");
    assert!(is_signed_in(store, &other) && !is_signed_in(store, &cookie));
}

async fn a_key_has_a_limited_number_of_sessions(store: &mut TestStore) {
    let (first, _) = key(store).await;
    let (other, _) = key(store).await;
    let kept = store.sign_in(other, HERE).await.expect("signed in");
    let oldest = store.sign_in(first.clone(), HERE).await.expect("signed in");
    store.pass(1_000);
    let more = join_all((0..100).map(|_| store.sign_in(first.clone(), HERE))).await;
    let more: Vec<String> = more.into_iter().map(|cookie| cookie.expect("signed in")).collect();
    for _ in 0..2 {
        assert!(!is_signed_in(store, &oldest) && is_signed_in(store, &kept));
        assert!(more.iter().all(|cookie| is_signed_in(store, cookie)));
        store.reopen().await;
    }
}

async fn a_sign_in_link_is_used_once(store: &mut TestStore) {
    let (admin, _) = store.create_key(operator(), None, Vec::new(), "admin".into()).await.expect("a key");
    let link = store.create_sign_in_link(operator(), admin.clone()).await.expect("a link");
    store.reopen().await;
    assert_eq!(store.use_sign_in_link("another").await.expect("no key"), None);
    assert_eq!(store.use_sign_in_link(&link).await.expect("a key"), Some(admin.id));
    assert_eq!(store.use_sign_in_link(&link).await.expect("no key"), None);
    let entries = store.changes(None, None, 9).await.expect("changes").0;
    assert_eq!((&*entries[0].action, &entries[0].subject), ("sign-in-link.create", &admin.shown()));
}

async fn a_sign_in_link_expires(store: &mut TestStore) {
    let (key, _) = key(store).await;
    let links = join_all((0..2).map(|_| store.create_sign_in_link(operator(), ApiKey::clone(&key)))).await;
    let links: Vec<String> = links.into_iter().map(|link| link.expect("a link")).collect();
    store.pass(24 * HOUR_MS - 1_000);
    assert_eq!(store.use_sign_in_link(&links[0]).await.expect("a key"), Some(key.id));
    store.pass(2_000);
    assert_eq!(store.use_sign_in_link(&links[1]).await.expect("no key"), None);
}
