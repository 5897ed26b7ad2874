//! Sums of statistics in the database.

use super::Postgres;
use crate::StoreError;
use crate::backend::figures::Cell;
use crate::backend::figures::FigureBackend;
use crate::backend::figures::SpanFigures;
use async_trait::async_trait;
use hookloom_model::figures::Figures;
use hookloom_model::subscription::TenantId;

#[async_trait]
impl FigureBackend for Postgres {
    async fn put_figures(&self, cells: Vec<(Cell, Figures)>) -> Result<(), StoreError> {
        todo!()
    }

    async fn figures(&self, tenant: TenantId, span_s: i64, from_s: i64) -> Result<Vec<SpanFigures>, StoreError> {
        todo!()
    }
}
