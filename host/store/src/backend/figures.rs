//! Statistics for the overview, summed by span, subscription and chain of plugins.

use crate::StoreError;
use async_trait::async_trait;
use hookloom_model::figures::Figures;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use uuid::Uuid;

/// Subscription in the key of accepted events, which belong to none.
pub const INTAKE: SubscriptionId = SubscriptionId(Uuid::nil());

/// Key of collected figures: tenant, subscription, plugins and minute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Tenant of the subscription.
    pub tenant: TenantId,
    /// Beginning of the minute, in seconds since the epoch.
    pub minute_s: i64,
    /// Subscription of the attempts, or [`INTAKE`].
    pub subscription: SubscriptionId,
    /// Names of the plugins that judged, joined by `+`. Empty without a plugin.
    pub plugin: String,
}

/// Figures of one span, subscription and chain of plugins.
#[derive(Clone, Debug)]
pub struct SpanFigures {
    /// Beginning of the span, in seconds since the epoch.
    pub at_s: i64,
    /// Subscription that the figures belong to, or [`INTAKE`].
    pub subscription: SubscriptionId,
    /// Names of the plugins that judged, joined by `+`. Empty without a plugin.
    pub plugin: String,
    /// Numbers of the span.
    pub figures: Figures,
}

/// Spans and their retention, in seconds.
pub(crate) const SPANS: [(i64, i64); 2] = [(60, 25 * 3_600), (3_600, 8 * 86_400)];

/// Maximum number of cells in one write: some milliseconds.
pub(crate) const STEP: usize = 128;

/// Sums of statistics.
#[async_trait]
pub trait FigureBackend: Send + Sync {
    /// Adds cells to the sums of their spans, except for tenants that were deleted meanwhile or whose share is used up, and deletes
    /// sums that are older than their retention.
    async fn put_figures(&self, cells: Vec<(Cell, Figures)>) -> Result<(), StoreError>;

    /// Returns the sums of spans of this length that begin at `from_s` or later, in seconds since the epoch, by time.
    async fn figures(&self, tenant: TenantId, span_s: i64, from_s: i64) -> Result<Vec<SpanFigures>, StoreError>;
}
