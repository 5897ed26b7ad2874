//! Links and sessions of the portal.

use super::test_store::{TestStore, tenant};
use super::test_values::operator;
use crate::backend::portal::PER_TENANT_MAX;
use crate::{Actor, PortalTerms, StoreError, UsageKind};
use futures_util::future::join_all;
use hookloom_model::portal::{EndedPortal, PortalLink, PortalSession};
use hookloom_model::subscription::TenantId;
use std::net::{IpAddr, Ipv4Addr};

conformance! {
    a_portal_link_is_used_once,
    a_portal_link_expires,
    a_portal_session_ends_by_its_age_and_by_signing_out,
    a_tenant_has_a_limited_number_of_portal_sessions,
    all_portal_sessions_of_a_tenant_end_at_once,
    a_full_tenant_gets_a_portal_link,
    a_deleted_tenant_has_no_portal,
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn terms(tenant: TenantId) -> PortalTerms {
    PortalTerms { tenant, expires_in_s: 600, session_s: 3_600, is_read_only: false, return_url: None }
}

async fn link(store: &TestStore, terms: PortalTerms) -> (PortalLink, String) {
    store.create_portal_link(operator(), terms).await.expect("a link")
}

async fn open(store: &TestStore, token: &str) -> Option<(PortalSession, String)> {
    store.open_portal_session(token, HERE).await.expect("an answer")
}

async fn session(store: &TestStore, cookie: &str) -> Option<PortalSession> {
    store.portal_session(cookie).await.expect("an answer")
}

async fn a_portal_link_is_used_once(store: &mut TestStore) {
    let return_url = Some("https://app.example.com/".to_owned());
    let wanted = PortalTerms { is_read_only: true, session_s: 60, return_url, ..terms(tenant()) };
    let (link, token) = link(store, wanted).await;
    assert_eq!(session(store, &token).await, None, "the token of a link opens nothing");
    store.reopen().await;
    assert_eq!(open(store, "another").await, None);
    store.pass(1_000);
    let (opened, cookie) = open(store, &token).await.expect("a session");
    assert_eq!(opened, link.opened(opened.csrf.clone(), store.now_ms()));
    assert_eq!(open(store, &token).await, None, "it was used");
    assert_eq!(open(store, &cookie).await, None, "the cookie of a session cannot be used up");
    for _ in 0..2 {
        assert_eq!(session(store, &cookie).await, Some(opened.clone()));
        store.reopen().await;
    }
    let entries = store.changes(Some(tenant()), None, 9).await.expect("changes").0;
    let told: Vec<_> = entries.iter().map(|one| (&*one.action, &*one.who, &*one.subject)).collect();
    let who = link.shown();
    let made = ("portal-link.create", "operator (hlk_1234…)", &*who);
    assert_eq!(told, [("portal-session.open", &*who, "127.0.0.1"), made]);
    let state = entries[1].after.as_ref().expect("a state").to_string();
    assert!(state.contains(r#""read_only":true"#) && !state.contains(&token), "{state}");
}

async fn a_portal_link_expires(store: &mut TestStore) {
    let mut tokens = Vec::new();
    for _ in 0..2 {
        tokens.push(link(store, terms(tenant())).await.1);
    }
    store.pass(599_000);
    assert!(open(store, &tokens[0]).await.is_some());
    store.pass(1_000);
    assert_eq!(open(store, &tokens[1]).await, None);
    let left = store.end_portal(operator(), tenant()).await.expect("ended");
    assert_eq!(left, EndedPortal { links: 0, sessions: 1 });
}

async fn a_portal_session_ends_by_its_age_and_by_signing_out(store: &mut TestStore) {
    let mut cookies = Vec::new();
    for _ in 0..2 {
        let (_, token) = link(store, terms(tenant())).await;
        cookies.push(open(store, &token).await.expect("a session").1);
    }
    store.end_portal_session(&cookies[0]).await.expect("signed out");
    assert_eq!(session(store, &cookies[0]).await, None);
    store.pass(3_599_000);
    assert!(session(store, &cookies[1]).await.is_some());
    store.pass(1_000);
    assert_eq!(session(store, &cookies[1]).await, None);
    store.end_portal_session(&cookies[1]).await.expect("nothing to do");
    // A link is not ended by its text as that of a cookie.
    let (_, token) = link(store, terms(tenant())).await;
    store.end_portal_session(&token).await.expect("nothing to do");
    assert!(open(store, &token).await.is_some());
}

async fn a_tenant_has_a_limited_number_of_portal_sessions(store: &mut TestStore) {
    let (_, oldest_token) = link(store, terms(tenant())).await;
    let (_, oldest_cookie) = open(store, &oldest_token).await.expect("a session");
    let other = store.add_tenant("u").await;
    let (_, foreign) = link(store, terms(other)).await;
    let (_, unused) = link(store, terms(tenant())).await;
    store.pass(1_000);
    let tokens = join_all((0..PER_TENANT_MAX).map(|_| link(store, terms(tenant())))).await;
    assert_eq!(open(store, &unused).await, None, "it was the oldest");
    store.pass(1_000);
    let opened = join_all(tokens.iter().map(|(_, token)| open(store, token))).await;
    let cookies: Vec<String> = opened.into_iter().map(|opened| opened.expect("a session").1).collect();
    assert_eq!(session(store, &oldest_cookie).await, None);
    assert!(session(store, &cookies[0]).await.is_some());
    assert!(open(store, &foreign).await.is_some(), "another tenant has its own");
}

async fn all_portal_sessions_of_a_tenant_end_at_once(store: &mut TestStore) {
    let other = store.add_tenant("u").await;
    let (_, kept) = link(store, terms(other)).await;
    let (_, unused) = link(store, terms(tenant())).await;
    let (_, used) = link(store, terms(tenant())).await;
    let (_, cookie) = open(store, &used).await.expect("a session");
    let before = store.usage(tenant()).await.expect("a usage");
    let ended = store.end_portal(operator(), tenant()).await.expect("ended");
    assert_eq!(ended, EndedPortal { links: 1, sessions: 1 });
    let after = store.usage(tenant()).await.expect("a usage");
    assert!(after.of(UsageKind::Access) < before.of(UsageKind::Access));
    for _ in 0..2 {
        assert_eq!(session(store, &cookie).await, None);
        assert_eq!(open(store, &unused).await, None);
        store.reopen().await;
    }
    assert!(open(store, &kept).await.is_some());
    let again = store.end_portal(operator(), tenant()).await.expect("nothing to do");
    assert_eq!(again, EndedPortal::default());
    let entries = store.changes(Some(tenant()), None, 9).await.expect("changes").0;
    assert_eq!((&*entries[0].action, &*entries[0].subject), ("portal.end", "portal"));
    assert_eq!(entries[1].before.as_ref().expect("a state").to_string(), r#"{"links":1,"sessions":1}"#);
}

async fn a_full_tenant_gets_a_portal_link(store: &mut TestStore) {
    store.create_token(Actor::Host, tenant(), "token".into()).await.expect("a token");
    store.reopen_with_room(0).await;
    let refused = store.create_token(Actor::Host, tenant(), "token".into()).await;
    assert!(matches!(refused, Err(StoreError::TenantFull(_))), "{refused:?}");
    let (_, token) = link(store, terms(tenant())).await;
    let (_, cookie) = open(store, &token).await.expect("a session");
    assert!(session(store, &cookie).await.is_some());
}

async fn a_deleted_tenant_has_no_portal(store: &mut TestStore) {
    let gone = store.add_tenant("u").await;
    let (_, unused) = link(store, terms(gone.clone())).await;
    let (_, used) = link(store, terms(gone.clone())).await;
    let (_, cookie) = open(store, &used).await.expect("a session");
    let contents = store.tenant_contents(gone.clone()).await.expect("contents");
    store.delete_tenant(operator(), gone.clone(), contents, || ()).await.expect("deleted");
    assert_eq!(session(store, &cookie).await, None);
    assert_eq!(open(store, &unused).await, None);
    let refused = store.create_portal_link(operator(), terms(gone.clone())).await;
    assert!(matches!(refused, Err(StoreError::NotFound("tenant"))), "{refused:?}");
    while !store.seam().delete_tenant_step(&gone).await.expect("a step").done {}
    store.add_tenant("u").await;
    assert_eq!(session(store, &cookie).await, None, "a new tenant of this name is another one");
}
