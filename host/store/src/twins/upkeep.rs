//! Background work, statistics, the clock, and restarts.

use super::PAUSES_MS;
use super::lanes::tenant_of;
use super::operation::{TwinStep, TwinWhat};
use super::side::{TwinSide, told};
use crate::SpanFigures;
use crate::backend::upkeep::ClockStep;
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::Attempt;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

impl TwinSide {
    /// Runs any other operation.
    pub(super) async fn look_after(&mut self, step: &TwinStep) -> String {
        let TwinStep { what, pick, more, .. } = *step;
        let tenant = tenant_of(step);
        let store = self.store();
        match what {
            TwinWhat::Count => {
                let outcome = ["delivered", "failed", "dropped", "later"][more % 4];
                let attempt = json!({"number": 1, "started_at_ms": 0, "config_generation": 1, "outcome": outcome,
                    "echoed": false, "log": [], "post_us": pick * 100});
                let attempt: Attempt = serde_json::from_value(attempt).expect("an attempt");
                store.count(&tenant, SubscriptionId(Uuid::from_u128(pick as u128 % 3)), &attempt);
                "counted".into()
            }
            TwinWhat::FlushFigures => told(store.flush_figures().await),
            TwinWhat::ReadFigures => self.figures(tenant, [60, 3_600, 90_000, 700_000][more % 4]).await,
            TwinWhat::Prune => {
                let retention = [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(3_600)];
                told(store.prune(retention[more % 3]).await)
            }
            TwinWhat::Sweep => told(store.sweep().await),
            TwinWhat::CompleteFanOuts => told(store.complete_fan_outs().await),
            TwinWhat::FanOutStep => {
                let fan_outs = store.backend.fan_outs().await.expect("fan-outs");
                let Some((tenant, id)) = fan_outs.get(pick % fan_outs.len().max(1)) else { return "none".into() };
                let receivers = store.catalog().receivers(tenant);
                told(store.backend.fan_out_step(tenant, *id, receivers).await)
            }
            TwinWhat::SetBack => told(store.move_due(ClockStep { now_ms: now_ms(), back_ms: PAUSES_MS[pick] }).await),
            // The last operations ran after this step of the clock.
            TwinWhat::MoveAgain => {
                told(store.move_due(ClockStep { now_ms: now_ms() - 4, back_ms: PAUSES_MS[pick] }).await)
            }
            TwinWhat::SetForward => told(store.move_due(ClockStep { now_ms: now_ms(), back_ms: 0 }).await),
            TwinWhat::Restart => {
                drop(store);
                self.restart().await;
                "restarted".into()
            }
            // The clock has been turned.
            _ => "passed".into(),
        }
    }

    /// Returns the statistics of the last seconds, and all stored ones. Those of one span have no order.
    pub(super) async fn figures(&self, tenant: TenantId, last_s: i64) -> String {
        let store = self.store();
        let mut text = told(store.figures(tenant.clone(), now_ms() / 1_000 - last_s).await.map(in_order));
        for span_s in [60, 3_600] {
            text += &told(store.backend.figures(tenant.clone(), span_s, 0).await.map(in_order));
        }
        text
    }
}

fn in_order(mut figures: Vec<SpanFigures>) -> Vec<SpanFigures> {
    figures.sort_by_key(|one| (one.at_s, one.subscription, one.plugin.clone(), format!("{:?}", one.figures)));
    figures
}
