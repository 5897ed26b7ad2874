//! Charts: bars of counts and lines of times, each as a figure with legend, axes, tooltips and a table of its numbers.
//!
//! # Guarantees
//! - All text is HTML beside an SVG drawing that is stretched, so that it can be read at any width.
//! - The figures contain numbers and constants of the program only, because templates do not escape them.

use super::duration;
use crate::store::grouped;
use jiff::Timestamp;
use std::fmt::Write as _;

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 200.0;

/// Duration of an hour and of a day, in seconds.
pub(super) const HOUR_S: i64 = 3_600;
pub(super) const DAY_S: i64 = 24 * HOUR_S;

/// Smallest height of a bar: one of many thousands can still be seen.
const BAR_MIN: f64 = 2.0;

/// Numbers of a bar: delivered, failed, dropped.
pub(super) type Bar = [u64; 3];

const LABELS: [&str; 3] = ["delivered", "failed", "dropped"];

/// Name of the series of accepted events.
const ACCEPTED: &str = "accepted";

const WITH_ACCEPTED: [&str; 4] = [ACCEPTED, "delivered", "failed", "dropped"];
const LINES: [&str; 2] = ["p50", "p95"];

/// Period of a chart: its end, its length, and the length of a point, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) now_s: i64,
    pub(super) lasts_s: i64,
    pub(super) point_s: i64,
}

impl Span {
    /// Returns the beginning of the first point, in seconds since the epoch. The last point is the one that is under way.
    pub(super) fn first_s(self) -> i64 {
        (self.now_s / self.point_s + 1) * self.point_s - self.lasts_s
    }

    /// Returns the beginning of a point in UTC.
    fn time(self, index: usize) -> String {
        let at_s = self.first_s() + self.point_s * i64::try_from(index).unwrap_or_default();
        let at = Timestamp::from_second(at_s).unwrap_or_default();
        at.strftime(if self.lasts_s > DAY_S { "%b %-d, %H:%M" } else { "%H:%M" }).to_string()
    }

    /// Returns the labels below the chart, oldest first.
    fn labels(self) -> Vec<String> {
        let parts = if self.lasts_s > DAY_S { self.lasts_s / DAY_S } else { 4 };
        let label = |part: i64| match self.lasts_s * (parts - part) / parts {
            0 => "now".to_owned(),
            away if away <= HOUR_S => format!("{} min ago", away / 60),
            away if away <= DAY_S => format!("{} h ago", away / HOUR_S),
            away => format!("{} d ago", away / DAY_S),
        };
        (0..=parts).map(label).collect()
    }
}

/// Chart without its drawing: words, and the rows of its table.
struct Figure<'a> {
    title: &'a str,
    description: String,
    /// Class, name and number of each series.
    legend: Vec<(&'static str, &'static str, String)>,
    ticks: Vec<String>,
    span: Span,
    columns: &'a [&'a str],
    rows: Vec<(usize, Vec<String>)>,
}

impl Figure<'_> {
    fn drawn(&self, inside: &str) -> String {
        let mut html = format!(
            "<figure class=\"chart\"><div class=\"chart-head\"><figcaption>{}</figcaption><ul class=\"legend\">",
            self.title
        );
        for (class, name, number) in &self.legend {
            let mark = if class.contains("line") {
                format!("<path class=\"{class}\" d=\"M0 5h16\"/>")
            } else {
                format!("<rect class=\"{class}\" width=\"10\" height=\"10\" x=\"3\"/>")
            };
            let _ = write!(
                html,
                "<li><svg viewBox=\"0 0 16 10\" aria-hidden=\"true\">{mark}</svg>{name} <strong>{number}</strong></li>"
            );
        }
        html.push_str("</ul></div>");
        if self.rows.is_empty() {
            html.push_str("<p class=\"none\">Nothing happened in this time.</p></figure>");
            return html;
        }
        let steps = self.ticks.len().saturating_sub(1).max(1);
        let ticks: String = self.ticks.iter().rev().map(|tick| format!("<span>{tick}</span>")).collect();
        let labels: String = self.span.labels().iter().map(|label| format!("<span>{label}</span>")).collect();
        let grid: String = (0..=steps)
            .map(|step| {
                let y = HEIGHT * step as f64 / steps as f64;
                format!("<path class=\"grid\" d=\"M0 {y:.1}H{WIDTH}\"/>")
            })
            .collect();
        let _ = write!(
            html,
            "<div class=\"plot\"><div class=\"y\" aria-hidden=\"true\">{ticks}</div>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}: {}\">{grid}{inside}</svg>\
             <div class=\"x\" aria-hidden=\"true\">{labels}</div></div>{}</figure>",
            self.title,
            self.description,
            self.table()
        );
        html
    }

    /// Returns the numbers of the points that have any.
    fn table(&self) -> String {
        let head: String = self.columns.iter().map(|name| format!("<th class=\"number\">{name}</th>")).collect();
        let mut html = format!(
            "<details><summary>Numbers as a table</summary><div tabindex=\"0\" role=\"group\" aria-label=\"{}\">\
             <table class=\"fit\"><thead><tr><th>From (UTC)</th>{head}</tr></thead><tbody>",
            self.title
        );
        for (index, cells) in &self.rows {
            let _ = write!(html, "<tr><td data-label=\"From\">{}</td>", self.span.time(*index));
            for (name, cell) in self.columns.iter().zip(cells) {
                let _ = write!(html, "<td data-label=\"{name}\" class=\"number\">{cell}</td>");
            }
            html.push_str("</tr>");
        }
        html + "</tbody></table></div></details>"
    }
}

/// Returns a round maximum that is not below `most`, and the number of steps to it.
fn scale(most: u64) -> (u64, u64) {
    let least = most.div_ceil(4).max(1);
    let magnitude = 10_u64.pow(least.ilog10());
    let steps = [1, 2, 5, 10].into_iter().map(|factor| factor * magnitude);
    let step = steps.into_iter().find(|step| *step >= least).unwrap_or(least);
    let count = most.div_ceil(step).max(1);
    (step * count, count)
}

/// Returns a duration without needless digits.
fn tick(us: u64) -> String {
    match us {
        0 => "0".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us as f64 / 1e3),
        _ => format!("{} s", us as f64 / 1e6),
    }
}

/// Draws bars, oldest first. The title is not escaped, and must be a constant of the program.
pub(super) fn bars(title: &str, bars: &[Bar], span: Span) -> String {
    draw_bars(title, bars, &[], span)
}

/// Draws bars of attempts, oldest first, and a line of the events that were accepted meanwhile. The title must be a constant as well.
pub(super) fn bars_with_accepted(title: &str, bars: &[Bar], accepted: &[u64], span: Span) -> String {
    draw_bars(title, bars, accepted, span)
}

/// Draws bars, and a line unless `accepted` is empty.
fn draw_bars(title: &str, bars: &[Bar], accepted: &[u64], span: Span) -> String {
    let names = if accepted.is_empty() { &LABELS[..] } else { &WITH_ACCEPTED[..] };
    let points: Vec<Vec<u64>> = bars
        .iter()
        .enumerate()
        .map(|(index, bar)| accepted.get(index).into_iter().chain(bar).copied().collect())
        .collect();
    let most = bars.iter().map(|bar| bar.iter().sum::<u64>()).chain(accepted.iter().copied()).max().unwrap_or(0);
    let (top, steps) = scale(most);
    let step = WIDTH / bars.len().max(1) as f64;
    let shown = || points.iter().enumerate().filter(|(_, counts)| counts.iter().any(|count| *count > 0));
    let mut inside = String::new();
    for (index, counts) in shown() {
        let parts = counts.iter().zip(names).filter(|(count, _)| **count > 0);
        let words: Vec<String> = parts.map(|(count, name)| format!("{} {name}", grouped(*count))).collect();
        let x = step * index as f64;
        let _ = write!(
            inside,
            "<g><title>{} UTC: {}</title><rect class=\"hit\" x=\"{x:.1}\" y=\"0\" width=\"{step:.1}\" height=\"{HEIGHT}\"/>{}</g>",
            span.time(index),
            words.join(", "),
            bar(bars[index], top, x, step)
        );
    }
    if !accepted.is_empty() {
        inside.push_str(&accepted_line(accepted, top, step));
    }
    let sums: Vec<u64> = (0..names.len()).map(|part| points.iter().map(|counts| counts[part]).sum()).collect();
    let described: Vec<String> = sums.iter().zip(names).map(|(sum, name)| format!("{sum} {name}")).collect();
    let legend = sums.iter().zip(names).map(|(sum, name)| {
        let class = if *name == ACCEPTED { "line accepted" } else { *name };
        (class, *name, grouped(*sum))
    });
    let figure = Figure {
        title,
        description: described.join(", "),
        legend: legend.collect(),
        ticks: (0..=steps).map(|step| grouped(top / steps * step)).collect(),
        span,
        columns: names,
        rows: shown().map(|(index, counts)| (index, counts.iter().map(|count| grouped(*count)).collect())).collect(),
    };
    figure.drawn(&inside)
}

/// Draws the parts of a bar above each other.
fn bar(counts: Bar, top: u64, x: f64, step: f64) -> String {
    let mut parts = String::new();
    let mut y = HEIGHT;
    for (count, label) in counts.iter().zip(LABELS).filter(|(count, _)| **count > 0) {
        let height = (HEIGHT * *count as f64 / top as f64).max(BAR_MIN);
        y -= height;
        let _ = write!(
            parts,
            "<rect class=\"{label}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
            x + step * 0.1,
            step * 0.8
        );
    }
    parts
}

fn accepted_line(accepted: &[u64], top: u64, step: f64) -> String {
    let place = |(index, count): (usize, &u64)| {
        let x = step * (index as f64 + 0.5);
        let y = HEIGHT - HEIGHT * *count as f64 / top as f64;
        format!("{x:.1} {y:.1}")
    };
    let places: Vec<String> = accepted.iter().enumerate().map(place).collect();
    let way = places.join("L");
    // The wider line below it sets it apart from bars.
    format!("<path class=\"line halo\" d=\"M{way}\"/><path class=\"line accepted\" d=\"M{way}\"/>")
}

/// Draws lines of p50 and p95, in microseconds, with gaps for points without a value. The title must be a constant as well.
pub(super) fn lines(title: &str, points: &[Option<[u64; 2]>], span: Span) -> String {
    let most = points.iter().flatten().map(|[_, p95]| *p95).max().unwrap_or(0);
    let (top, steps) = scale(most);
    let step = WIDTH / points.len().max(1) as f64;
    let mut inside = String::new();
    for (part, class) in LINES.into_iter().enumerate() {
        let at = |index: usize, point: &[u64; 2]| {
            let x = step * (index as f64 + 0.5);
            let y = HEIGHT - HEIGHT * point[part] as f64 / top as f64;
            format!("{x:.1} {y:.1}")
        };
        let mut from = 0;
        for piece in points.chunk_by(|one, next| one.is_some() && next.is_some()) {
            let places: Vec<String> =
                piece.iter().flatten().enumerate().map(|(offset, point)| at(from + offset, point)).collect();
            from += piece.len();
            let _ = match places.as_slice() {
                [] => Ok(()),
                // A line of one point is a dot.
                [place] => write!(inside, "<path class=\"line point {class}\" d=\"M{place}l0.1 0\"/>"),
                places => write!(inside, "<path class=\"line {class}\" d=\"M{}\"/>", places.join("L")),
            };
        }
    }
    for (index, [p50, p95]) in points.iter().enumerate().filter_map(|(index, point)| Some((index, point.as_ref()?))) {
        let _ = write!(
            inside,
            "<g><title>{} UTC: p50 {}, p95 {}</title><rect class=\"hit\" x=\"{:.1}\" y=\"0\" width=\"{step:.1}\" height=\"{HEIGHT}\"/></g>",
            span.time(index),
            duration(*p50),
            duration(*p95),
            step * index as f64
        );
    }
    let last = points.iter().rev().flatten().next();
    let latest = |part: usize| last.map_or_else(|| "–".to_owned(), |point| duration(point[part]));
    let rows = points.iter().enumerate().filter_map(|(index, point)| Some((index, point.as_ref()?)));
    let figure = Figure {
        title,
        description: last.map_or_else(
            || "nothing to show".to_owned(),
            |[p50, p95]| format!("p50 last {}, p95 last {}", duration(*p50), duration(*p95)),
        ),
        legend: vec![("line p50", "p50", latest(0)), ("line p95", "p95", latest(1))],
        ticks: (0..=steps).map(|step| tick(top / steps * step)).collect(),
        span,
        columns: &LINES,
        rows: rows.map(|(index, point)| (index, point.iter().map(|us| duration(*us)).collect())).collect(),
    };
    figure.drawn(&inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { now_s: 1_709_287_745, lasts_s: 3_600, point_s: 60 };

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let chart = bars("Attempts", &[[3, 1, 0], [0, 0, 0], [5, 0, 2]], SPAN);
        assert!(chart.contains("aria-label=\"Attempts: 8 delivered, 1 failed, 2 dropped\""), "{chart}");
        for class in ["delivered", "failed", "dropped"] {
            assert!(chart.contains(&format!("<rect class=\"{class}\"")), "{class}");
        }
        assert!(chart.contains("<title>09:10 UTC: 3 delivered, 1 failed</title>"), "{chart}");
        assert_eq!(chart.matches("<td data-label=\"From\">").count(), 2, "rows without numbers are left out");
        assert!(chart.contains("<span>60 min ago</span>") && chart.contains("<span>now</span>"), "{chart}");
        let both = bars_with_accepted("Both", &[[3, 1, 0], [0, 0, 0], [0, 0, 0]], &[8, 0, 2], SPAN);
        assert!(both.contains("aria-label=\"Both: 10 accepted, 3 delivered, 1 failed, 0 dropped\""), "{both}");
        assert!(both.contains("<title>09:10 UTC: 8 accepted, 3 delivered, 1 failed</title>"), "{both}");
        assert!(both.contains("d=\"M166.7 0.0L500.0 200.0L833.3 150.0\""), "{both}");
        assert!(both.contains("<path class=\"line accepted\" d=\"M0 5h16\"/>"), "it has a mark of its own: {both}");
        assert_eq!(both.matches("<td data-label=\"From\">").count(), 2, "{both}");
        let empty = lines("Times", &[None, None], SPAN);
        assert!(empty.contains("Nothing happened") && !empty.contains("NaN"), "{empty}");
        let times = lines("Times", &[Some([1_000, 2_000]), None, Some([3_000, 4_000]), Some([2_000, 4_000])], SPAN);
        let pieces = [times.matches("l0.1 0").count(), times.matches(" d=\"M625.0 ").count()];
        assert_eq!(pieces, [2, 2], "each line has a dot and a piece: {times}");
        assert!(times.contains("<span>4 ms</span>"), "{times}");
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        #[track_caller]
        fn check(most: u64, expected: (u64, u64)) {
            assert_eq!(scale(most), expected);
        }
        check(0, (1, 1));
        check(1, (1, 1));
        check(3, (3, 3));
        check(7, (8, 4));
        check(101, (150, 3));
        check(1_999_999, (2_000_000, 4));
    }
}
