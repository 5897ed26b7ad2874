//! Figures of a period as points of a chart, and their values as texts. Pure.

use super::chart::{Bar, Span};
use crate::figures::{Figures, Latencies};
use crate::store::SpanFigures;

/// Returns figures by point, oldest first, including empty points.
pub(super) fn series(figures: &[SpanFigures], span: Span) -> Vec<Figures> {
    let count = usize::try_from(span.lasts_s / span.point_s).unwrap_or(1);
    let first_s = span.first_s();
    let mut series = vec![Figures::default(); count];
    for one in figures {
        let index = usize::try_from((one.at_s - first_s).max(0) / span.point_s).unwrap_or(0);
        if let Some(point) = series.get_mut(index) {
            point.merge(&one.figures);
        }
    }
    series
}

/// Returns the sum of figures.
pub(super) fn sum<'a>(figures: impl Iterator<Item = &'a SpanFigures>) -> Figures {
    figures.fold(Figures::default(), |mut sum, one| {
        sum.merge(&one.figures);
        sum
    })
}

/// Returns the numbers of attempts of each point.
pub(super) fn bars(series: &[Figures]) -> Vec<Bar> {
    series.iter().map(|figures| [figures.delivered, figures.failed, figures.dropped]).collect()
}

/// Returns the p50 and p95 of each point that has latencies.
pub(super) fn times(series: &[Figures], of: impl Fn(&Figures) -> &Latencies) -> Vec<Option<[u64; 2]>> {
    series.iter().map(|figures| Some([of(figures).percentile(50.0)?, of(figures).percentile(95.0)?])).collect()
}

/// Returns a success rate as a text.
pub(super) fn percent(success: Option<f64>) -> String {
    success.map_or_else(|| "–".to_owned(), |success| format!("{success:.2} %"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::SubscriptionId;

    #[test]
    fn figures_fall_into_their_points() {
        fn at(at_s: i64, delivered: u64) -> SpanFigures {
            SpanFigures {
                at_s,
                subscription: SubscriptionId(uuid::Uuid::nil()),
                plugin: String::new(),
                figures: Figures { delivered, ..Figures::default() },
            }
        }
        let span = Span { now_s: 185, lasts_s: 180, point_s: 60 };
        let series = series(&[at(60, 1), at(119, 2), at(120, 4), at(10_000, 9)], span);
        assert_eq!(series.iter().map(|point| point.delivered).collect::<Vec<_>>(), [3, 4, 0]);
    }
}
