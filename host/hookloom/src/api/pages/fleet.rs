//! Page of the hosts that share the database, for admins, with the form that moves a shard.

use super::user::{PostedByAdmin, SignedIn};
use super::{DisplayTime, Frame, HtmlPage, PageError, filters, go_to, render};
use crate::api::ApiState;
use crate::operations::{Admin, FleetBody, HostBody, LostHostBody, Problem, ShardBody, ShardWrite};
use crate::plural::counted;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use std::cmp::Reverse;
use std::sync::Arc;

/// Maximum number of shards on the page.
const SHARDS_SHOWN: usize = 12;

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    frame: Frame,
    problem: String,
    /// True if no other host can share the database.
    is_alone: bool,
    hosts: Vec<HostRow>,
    lost: Vec<LostRow>,
    /// Shards with webhooks, and those that were moved by hand.
    shards: Vec<ShardRow>,
    /// Number of shards with webhooks that are not shown.
    more: usize,
    /// Submitted shard.
    typed_shard: String,
}

struct HostRow {
    number: i16,
    name: String,
    version: String,
    /// True if it is the host that shows the page.
    is_this: bool,
    /// True if it is the submitted host.
    is_chosen: bool,
    state: &'static str,
    started: DisplayTime,
    shards: usize,
    /// Shards in percent of all.
    percent: usize,
    webhooks: u64,
    pending: u64,
    attempts_per_s: String,
    under_way: u32,
    /// Changes that are not in force there.
    behind: String,
    lease: String,
}

struct LostRow {
    number: i16,
    name: String,
    version: String,
    lost_at: DisplayTime,
}

struct ShardRow {
    number: usize,
    /// Digits with which the ids of its webhooks end.
    digits: String,
    host: String,
    webhooks: u64,
    pending: u64,
    /// Consequence of a move by hand. Empty: there was none.
    moved: String,
}

impl HostRow {
    fn of(host: HostBody, chosen: &str) -> Self {
        let behind = host.changes_behind.map(|changes| match changes {
            0 => "none".to_owned(),
            changes => counted(changes, "change", "changes"),
        });
        HostRow {
            number: host.number,
            name: host.name,
            version: host.version,
            is_this: host.this,
            is_chosen: chosen == host.number.to_string(),
            state: host.state,
            started: DisplayTime::at_ms(host.started_at_ms),
            shards: host.shards,
            percent: host.shards * 100 / 256,
            webhooks: host.subscriptions,
            pending: host.pending,
            attempts_per_s: format!("{:.1}", host.attempts_per_s),
            under_way: host.attempts_under_way,
            behind: behind.unwrap_or_else(|| "unknown".to_owned()),
            lease: host.lease_ms.map(|ms| format!("{:.1} s", ms as f64 / 1e3)).unwrap_or_default(),
        }
    }
}

impl From<LostHostBody> for LostRow {
    fn from(LostHostBody { number, name, version, lost_at_ms }: LostHostBody) -> Self {
        LostRow { number, name, version, lost_at: DisplayTime::at_ms(lost_at_ms) }
    }
}

impl From<ShardBody> for ShardRow {
    fn from(shard: ShardBody) -> Self {
        let moved = match shard.pinned_to {
            Some(to) if shard.host == Some(to) => "moved here by hand".to_owned(),
            Some(to) => format!("moves to host {to} by hand"),
            None if shard.pinned => "until the host that it was moved to is back".to_owned(),
            None => String::new(),
        };
        ShardRow {
            number: shard.shard,
            digits: format!("{:02x}", shard.shard),
            host: shard.host.map_or_else(|| "none".to_owned(), |host| host.to_string()),
            webhooks: shard.subscriptions,
            pending: shard.pending,
            moved,
        }
    }
}

/// Lists the hosts.
pub(super) async fn list(user: SignedIn, State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    list_with(&user, &state, String::new(), &Default::default()).await
}

async fn list_with(
    user: &SignedIn,
    state: &ApiState,
    problem: String,
    [typed_shard, typed_host]: &[String; 2],
) -> Result<HtmlPage, PageError> {
    let FleetBody { hosts, mut shards, lost } = state.operations.fleet(&Admin::of(&user.key)?).await?;
    shards.retain(|one| one.subscriptions > 0 || one.pinned);
    shards.sort_by_key(|one| (!one.pinned, Reverse(one.pending), Reverse(one.subscriptions)));
    let page = FleetPage {
        frame: Frame::of(user, state, "Hosts"),
        problem,
        is_alone: hosts.iter().all(|host| host.lease_ms.is_none()),
        more: shards.len().saturating_sub(SHARDS_SHOWN),
        hosts: hosts.into_iter().map(|host| HostRow::of(host, typed_host)).collect(),
        lost: lost.into_iter().map(LostRow::from).collect(),
        shards: shards.into_iter().take(SHARDS_SHOWN).map(ShardRow::from).collect(),
        typed_shard: typed_shard.clone(),
    };
    render(state, None, page).await
}

/// Moves a shard to a host, or lets the hosts balance it.
pub(super) async fn move_shard(
    State(state): State<Arc<ApiState>>,
    posted: PostedByAdmin,
) -> Result<Response, PageError> {
    let PostedByAdmin { admin, user, form } = posted;
    let typed = ["shard", "host"].map(|name| form.get(name).to_owned());
    let [shard, host] = &typed;
    let moved = async {
        let host = match host.as_str() {
            "" => None,
            number => Some(number.parse().map_err(|_| Problem::field("/host", "is a number"))?),
        };
        state.operations.move_shard(&admin, shard, ShardWrite { host }).await
    };
    match moved.await {
        Ok(moved) => {
            let flash = match moved.pinned_to {
                None => format!("The hosts balance shard {shard}."),
                to if to == moved.host => format!("Host {host} keeps shard {shard}."),
                Some(_) => format!("Shard {shard} moves to host {host} when none of its attempts is under way."),
            };
            Ok(go_to(&UrlPath::root().then("fleet"), &flash))
        }
        Err(problem) => {
            let page = list_with(&user, &state, problem.in_words(), &typed).await?;
            Ok(page.with(StatusCode::UNPROCESSABLE_ENTITY).into_response())
        }
    }
}
