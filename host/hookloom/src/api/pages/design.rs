//! Page that shows each component of the console's design system, with made-up data. `docs/explanation/console.md` has the rules.

use super::diff::Diff;
use super::user::SignedIn;
use super::{DisplayTime, Frame, HtmlPage, PageError, chart, filters, render};
use crate::api::ApiState;
use crate::clock::now_ms;
use askama::Template;
use axum::extract::State;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "design.html")]
struct Design {
    frame: Frame,
    /// Class and name of each step of the type scale.
    sizes: [(&'static str, &'static str); 5],
    surfaces: [&'static str; 3],
    roles: [&'static str; 5],
    states: [&'static str; 11],
    icons: [&'static str; 12],
    recent: DisplayTime,
    attempts_chart: String,
    latency_chart: String,
    diff: Diff,
}

/// Shows every component. Only signed-in users see it, because it has their menu.
pub(super) async fn page(user: SignedIn, State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    let span = chart::Span { now_s: now_ms() / 1_000, lasts_s: 3_600, point_s: 60 };
    let bars: Vec<chart::Bar> =
        (0..60).map(|at: u64| [20 + at * 7 % 31, if at.is_multiple_of(11) { 4 } else { 0 }, at % 3]).collect();
    let accepted: Vec<u64> = bars.iter().map(|bar| bar.iter().sum::<u64>() * 3 / 4).collect();
    let times: Vec<_> =
        (0..60).map(|at: u64| Some([18_000 + at * 977 % 9_000, 41_000 + at * 1_811 % 30_000])).collect();
    let page = Design {
        sizes: [
            ("text-2xl", "24 px: title of a page"),
            ("text-xl", "20 px: a figure"),
            ("text-lg", "17 px: heading of a section"),
            ("text-md", "14 px: text"),
            ("text-xs", "12 px: headers of tables, states"),
        ],
        surfaces: ["surface", "raised", "sunken"],
        roles: ["accent", "success", "warning", "danger", "info"],
        states: [
            "delivered",
            "active",
            "pending",
            "paused",
            "dead",
            "cancelled",
            "healthy",
            "degraded",
            "waiting",
            "failing",
            "idle",
        ],
        icons: [
            "webhook",
            "send",
            "puzzle",
            "tag",
            "inbox",
            "key-round",
            "server",
            "play",
            "pause",
            "rotate-ccw",
            "copy",
            "trash-2",
        ],
        recent: DisplayTime::at_ms(now_ms() - 180_000),
        attempts_chart: chart::bars_with_accepted("Events and attempts", &bars, &accepted, span),
        latency_chart: chart::lines("POST duration", &times, span),
        diff: Diff::new(r#"{"id":7,"name":"Ada"}"#, r#"{"id":7,"full_name":"Ada"}"#),
        frame: Frame::of(&user, &state, "Design"),
    };
    render(&state, None, page).await
}
