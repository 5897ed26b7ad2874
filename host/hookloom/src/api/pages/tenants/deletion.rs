//! Deletion of a tenant: what it deletes, and the form that confirms it by the tenant's name.

use super::{PostedByAdmin, SignedIn};
use crate::api::ApiState;
use crate::api::extract::PathParams;
use crate::api::pages::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render, size};
use crate::operations::{Admin, Problem};
use crate::store::{TenantContents, grouped};
use crate::subscription::TenantId;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "tenant_deletion.html")]
struct DeletionPage {
    frame: Frame,
    problem: String,
    id: String,
    since: Option<DisplayTime>,
    /// Sentence with the largest counts.
    summary: String,
    counts: Vec<CountRow>,
}

/// Number of things of a kind.
struct CountRow {
    kind: &'static str,
    count: String,
    /// Effect of the deletion, besides that they are deleted. Empty: none.
    note: &'static str,
}

/// Shows what the deletion of a tenant deletes, with the form that confirms it.
pub(in crate::api::pages) async fn deletion(
    user: SignedIn,
    path: PathParams,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    deletion_with(&user, &state, path.get("t"), String::new()).await
}

async fn deletion_with(user: &SignedIn, state: &ApiState, id: &str, problem: String) -> Result<HtmlPage, PageError> {
    Admin::of(&user.key)?;
    let tenant = TenantId::parse(id).map_err(|_| Problem::not_found("tenant"))?;
    let pending = state.operations.store.pending(&tenant).values().sum();
    let contents = state.operations.store.tenant_contents(tenant).await?;
    let page = DeletionPage {
        frame: Frame::of(user, state, "Tenants"),
        problem,
        id: id.to_owned(),
        since: contents.deleting_since_ms.map(DisplayTime::at_ms),
        summary: summary(&contents, pending),
        counts: count_rows(&contents, pending),
    };
    render(state, None, page).await
}

fn count_rows(contents: &TenantContents, pending: u64) -> Vec<CountRow> {
    let TenantContents {
        tenant: _,
        deleting_since_ms: _,
        events,
        deliveries,
        plugins,
        versions,
        subscriptions,
        bins,
        keys,
        intake_tokens,
        bytes,
    } = contents;
    fn row(kind: &'static str, count: u64, note: &'static str) -> CountRow {
        CountRow { kind, count: grouped(count), note }
    }
    vec![
        row("Webhooks", *subscriptions, "Their settings and secrets are gone."),
        row("Events", *events, ""),
        row("Deliveries", *deliveries, ""),
        row("Pending deliveries", pending, "They are not sent."),
        row("Keys", *keys, "They stop working at once."),
        row("Addresses for Agile CRM", *intake_tokens, "Requests to them are refused at once."),
        row("Plugins", *plugins, ""),
        row("Plugin versions", *versions, ""),
        row("Inspector bins", *bins, ""),
        CountRow { kind: "Storage", count: size(*bytes), note: "It is free for other tenants afterwards." },
    ]
}

fn summary(contents: &TenantContents, pending: u64) -> String {
    fn part(count: u64, one: &str, several: &str) -> String {
        format!("{} {}", grouped(count), if count == 1 { one } else { several })
    }
    let parts = [
        part(contents.subscriptions, "webhook", "webhooks"),
        part(contents.events, "event", "events"),
        part(pending, "pending delivery", "pending deliveries"),
        part(contents.keys, "key", "keys"),
        part(contents.plugins, "plugin", "plugins"),
    ];
    let [before @ .., last] = &parts;
    format!("{} and {last}", before.join(", "))
}

/// Deletes a tenant whose name was entered for confirmation.
pub(in crate::api::pages) async fn delete(
    State(state): State<Arc<ApiState>>,
    path: PathParams,
    posted: PostedByAdmin,
) -> Result<Response, PageError> {
    let PostedByAdmin { admin, user, form } = posted;
    let id = path.get("t").to_owned();
    match state.operations.delete_tenant(&admin, &id, Some(form.get("confirm"))).await {
        Ok(_) => Ok(go_to(&UrlPath::root().then("tenants"), &format!("The tenant {id} is being deleted."))),
        Err(problem) => {
            let problem = problem
                .errors
                .first()
                .map_or_else(|| problem.in_words(), |_| format!("The name does not match: type {id} to delete it."));
            let page = deletion_with(&user, &state, &id, problem).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_is_deleted() {
        let contents = TenantContents {
            tenant: "acme".into(),
            deleting_since_ms: None,
            events: 600,
            deliveries: 1_800,
            plugins: 1,
            versions: 2,
            subscriptions: 3,
            bins: 0,
            keys: 1,
            intake_tokens: 1,
            bytes: 2_048,
        };
        assert_eq!(summary(&contents, 1_200), "3 webhooks, 600 events, 1,200 pending deliveries, 1 key and 1 plugin");
        let rows = count_rows(&contents, 1_200);
        assert_eq!((rows[2].count.as_str(), rows[9].count.as_str()), ("1,800", "2.0 KiB"));
    }
}
