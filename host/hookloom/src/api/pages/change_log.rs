//! Page of the log of changes: what each key changed, as sentences, with the fields before and after. An admin also sees the log of
//! the host.
//!
//! # Guarantees
//! - Only users who may change things see it, and the log of the host only admins.
//! - Values that may be secret are not shown, even if they are part of a state ([`fields`]).

mod fields;
mod sentence;
mod things;

use super::deliveries::{SearchFault, time};
use super::user::TenantUser;
use super::{DisplayTime, Frame, PageError, filters, render};
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::operations::{Admin, Problem, ToManage};
use crate::store::{Change, ChangeSearch};
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use fields::FieldChange;
use http::StatusCode;
use sentence::Sentence;
use serde::Deserialize;
use std::sync::Arc;
use things::Things;
use uuid::Uuid;

/// Maximum number of entries on a page.
const PAGE: usize = 50;

/// Choice of things on the page: its value, its label, and the kinds of the log.
struct KindGroup {
    value: &'static str,
    label: &'static str,
    kinds: &'static [&'static str],
}

/// Things that a tenant's log is about.
const OF_TENANT: [KindGroup; 7] = [
    KindGroup { value: "webhooks", label: "Webhooks", kinds: &["subscription"] },
    KindGroup { value: "deliveries", label: "Deliveries", kinds: &["delivery"] },
    KindGroup { value: "plugins", label: "Plugins", kinds: &["plugin"] },
    KindGroup { value: "keys", label: "Keys and sessions", kinds: &["key", "session"] },
    KindGroup { value: "addresses", label: "Addresses for Agile CRM", kinds: &["intake-token", "rejected-request"] },
    KindGroup { value: "bins", label: "Inspector", kinds: &["bin"] },
    KindGroup { value: "alerts", label: "Alerts", kinds: &["alerts"] },
];

/// Things that the log of the host is about.
const OF_HOST: [KindGroup; 3] = [
    KindGroup { value: "tenants", label: "Tenants", kinds: &["tenant"] },
    KindGroup {
        value: "admin-keys",
        label: "Admin keys and sessions",
        kinds: &["admin-key", "session", "sign-in-link"],
    },
    KindGroup { value: "shards", label: "Shards of hosts", kinds: &["shard"] },
];

/// Query of the page.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChangeLogParams {
    /// `host`: the log of the host. Otherwise that of the tenant.
    of: String,
    who: String,
    kind: String,
    from: String,
    to: String,
    cursor: Option<Uuid>,
}

/// Option of the choice of things: value, label, and whether it is chosen.
type KindChoice = (&'static str, &'static str, bool);

#[derive(Template)]
#[template(path = "change_log.html")]
struct ChangeLogPage {
    frame: Frame,
    params: ChangeLogParams,
    is_of_host: bool,
    kinds: Vec<KindChoice>,
    /// Names of the keys that there are, for the box of authors.
    authors: Vec<String>,
    fault: Option<SearchFault>,
    rows: Vec<ChangeRow>,
    newest: Option<String>,
    older: Option<String>,
}

struct ChangeRow {
    at: DisplayTime,
    /// Key as the log has it.
    who: String,
    /// Link to the entries of this key.
    by_who: String,
    sentence: Sentence,
    fields: Vec<FieldChange>,
}

/// Shows a page of the log.
pub(super) async fn page(
    user: TenantUser,
    Params(params): Params<ChangeLogParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<Response, PageError> {
    user.access::<ToManage>(&state)?;
    let is_of_host = params.of == "host";
    if is_of_host {
        Admin::of(&user.user.key)?;
    }
    let of = (!is_of_host).then(|| user.tenant.clone());
    let fault = match params.search() {
        Ok(search) => {
            let (changes, more) = state.operations.store.search_changes(of, search, params.cursor, PAGE).await?;
            let page = log_page(&user, &state, params, None, changes, more).await?;
            return Ok(render(&state, Some(&user.tenant), page).await?.into_response());
        }
        Err(fault) => fault,
    };
    let page = log_page(&user, &state, params, Some(fault), Vec::new(), false).await?;
    let page = render(&state, Some(&user.tenant), page).await?;
    Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
}

async fn log_page(
    user: &TenantUser,
    state: &ApiState,
    params: ChangeLogParams,
    fault: Option<SearchFault>,
    changes: Vec<Change>,
    more: bool,
) -> Result<ChangeLogPage, Problem> {
    let is_of_host = params.of == "host";
    let things = Things::of(state, &user.tenant, &changes).await?;
    let newest = params.cursor.map(|_| params.link(None));
    let older = changes.last().filter(|_| more).map(|last| params.link(Some(last.id)));
    let row = |change: Change| {
        let by_who = ChangeLogParams { who: change.who.clone(), cursor: None, ..params.clone() };
        ChangeRow {
            at: DisplayTime::at_ms(change.at_ms),
            by_who: by_who.link(None),
            fields: fields::changed(&change),
            sentence: sentence::of(&change, &things),
            who: change.who,
        }
    };
    Ok(ChangeLogPage {
        frame: Frame::new(user, state, "Access"),
        kinds: params.groups().iter().map(|one| (one.value, one.label, one.value == params.kind)).collect(),
        authors: authors(state, &user.tenant, user.user.key.is_admin()),
        rows: changes.into_iter().map(row).collect(),
        is_of_host,
        fault,
        newest,
        older,
        params,
    })
}

/// Returns the names of the keys that a user may see. Revoked keys can be typed.
fn authors(state: &ApiState, tenant: &TenantId, is_admin: bool) -> Vec<String> {
    let catalog = state.operations.store.catalog();
    let mut keys = catalog.keys(Some(tenant));
    if is_admin {
        keys.extend(catalog.keys(None));
    }
    keys.iter().map(|key| key.shown()).collect()
}

impl ChangeLogParams {
    fn groups(&self) -> &'static [KindGroup] {
        if self.of == "host" { &OF_HOST } else { &OF_TENANT }
    }

    /// Reads the conditions of the search.
    fn search(&self) -> Result<ChangeSearch, SearchFault> {
        let from_ms = time("from", &self.from)?;
        let to_ms = time("to", &self.to)?;
        if from_ms.zip(to_ms).is_some_and(|(from_ms, to_ms)| from_ms >= to_ms) {
            return Err(SearchFault { field: "to", detail: "the end must be later than the beginning".to_owned() });
        }
        let group = self.groups().iter().find(|group| group.value == self.kind);
        let kinds = group.map_or(&[][..], |group| group.kinds);
        Ok(ChangeSearch {
            who: self.who.trim().to_owned(),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            from_ms,
            to_ms,
        })
    }

    /// Returns true if the list is narrowed down.
    fn is_narrow(&self) -> bool {
        self.has_span() || !self.who.is_empty() || !self.kind.is_empty()
    }

    /// Returns true if the list is narrowed down to a span of time.
    fn has_span(&self) -> bool {
        !self.from.is_empty() || !self.to.is_empty()
    }

    /// Returns the link to a page of the same list.
    fn link(&self, cursor: Option<Uuid>) -> String {
        let pairs =
            [("of", &self.of), ("who", &self.who), ("kind", &self.kind), ("from", &self.from), ("to", &self.to)];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(pairs.into_iter().filter(|(_, value)| !value.is_empty()));
        if let Some(cursor) = cursor {
            query.append_pair("cursor", &cursor.to_string());
        }
        format!("?{}", query.finish())
    }
}

impl ChangeLogPage {
    /// Returns the fault of a field of the search. Empty: none.
    fn fault_of(&self, field: &str) -> &str {
        self.fault.as_ref().filter(|fault| fault.field == field).map_or("", |fault| &fault.detail)
    }

    /// Returns the path of the page without a search.
    fn here(&self) -> String {
        let path = UrlPath::pages_of(&self.frame.tenant).then("changes");
        if self.is_of_host { path.query("of", "host").to_string() } else { path.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_the_search() {
        let params =
            ChangeLogParams { who: "Anna (hlk_1…)".into(), kind: "keys".into(), ..ChangeLogParams::default() };
        assert_eq!(
            params.link(Some(Uuid::nil())),
            "?who=Anna+%28hlk_1%E2%80%A6%29&kind=keys&cursor=00000000-0000-0000-0000-000000000000"
        );
        assert_eq!(ChangeLogParams { of: "host".into(), ..ChangeLogParams::default() }.link(None), "?of=host");
        assert!(params.is_narrow() && !ChangeLogParams::default().is_narrow());
    }

    #[test]
    fn a_choice_of_things_has_the_kinds_of_its_log() {
        #[track_caller]
        fn check(of: &str, kind: &str, expected: &[&str]) {
            let params = ChangeLogParams { of: of.into(), kind: kind.into(), ..ChangeLogParams::default() };
            assert_eq!(params.search().expect("no span").kinds, expected);
        }
        check("", "", &[]);
        check("", "keys", &["key", "session"]);
        check("host", "admin-keys", &["admin-key", "session", "sign-in-link"]);
        check("host", "keys", &[]);
        let params = ChangeLogParams {
            from: "2024-03-01T10:09".into(),
            to: "2024-03-01T10:09".into(),
            ..ChangeLogParams::default()
        };
        assert_eq!(params.search().expect_err("no span").field, "to");
    }
}
