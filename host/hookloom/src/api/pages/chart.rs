//! Charts as SVG: bars of counts, lines of times. Each has a title and a description for screen readers.

use super::duration;
use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 180.0;
/// Margins for the numbers at the left, and for the times below.
const LEFT: f64 = 60.0;
const BELOW: f64 = 20.0;

/// Numbers of a bar: delivered, failed, dropped.
pub(super) type Bar = [u64; 3];

const LABELS: [&str; 3] = ["delivered", "failed", "dropped"];

fn frame(title: &str, description: &str, top: &str, ends: [&str; 2], inside: &str) -> String {
    let right = WIDTH;
    let bottom = HEIGHT - BELOW;
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {description}\">\
         <title>{title}</title><desc>{description}</desc>\
         <line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/>\
         <line class=\"axis\" x1=\"{LEFT}\" y1=\"10\" x2=\"{right}\" y2=\"10\"/>\
         <text x=\"{x}\" y=\"14\" text-anchor=\"end\">{top}</text><text x=\"{x}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\
         <text x=\"{LEFT}\" y=\"{HEIGHT}\" dy=\"-4\">{}</text><text x=\"{right}\" y=\"{HEIGHT}\" dy=\"-4\" text-anchor=\"end\">{}</text>{inside}</svg>",
        ends[0],
        ends[1],
        x = LEFT - 6.0,
    )
}

/// Draws bars, oldest first, with labels under the first and the last. The texts are not escaped, and must be constants of the
/// program.
pub(super) fn bars(title: &str, bars: &[Bar], ends: [&str; 2]) -> String {
    let most = bars.iter().map(|bar| bar.iter().sum::<u64>()).max().unwrap_or(0).max(1);
    let step = (WIDTH - LEFT) / bars.len().max(1) as f64;
    let room = HEIGHT - BELOW - 10.0;
    let mut inside = String::new();
    for (index, bar) in bars.iter().enumerate() {
        let mut y = HEIGHT - BELOW;
        for (count, label) in bar.iter().zip(LABELS).filter(|(count, _)| **count > 0) {
            let height = room * *count as f64 / most as f64;
            y -= height;
            let x = LEFT + step * index as f64;
            let width = (step - 1.0).max(0.5);
            let _ = write!(
                inside,
                "<rect class=\"{label}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{count} {label}</title></rect>"
            );
        }
    }
    let sum = |part: usize| bars.iter().map(|bar| bar[part]).sum::<u64>();
    let description = format!("{} delivered, {} failed, {} dropped", sum(0), sum(1), sum(2));
    frame(title, &description, &most.to_string(), ends, &inside)
}

/// Draws lines of p50 and p95, in microseconds, with gaps for points without a value.
pub(super) fn lines(title: &str, points: &[Option<[u64; 2]>], ends: [&str; 2]) -> String {
    let most = points.iter().flatten().map(|[_, p95]| *p95).max().unwrap_or(0).max(1);
    let step = (WIDTH - LEFT) / points.len().max(1) as f64;
    let room = HEIGHT - BELOW - 10.0;
    let mut inside = String::new();
    for (part, class) in [(0, "p50"), (1, "p95 dash")] {
        let mut path = String::new();
        let mut pen_down = false;
        for (index, point) in points.iter().enumerate() {
            let Some(point) = point else {
                pen_down = false;
                continue;
            };
            let x = LEFT + step * (index as f64 + 0.5);
            let y = HEIGHT - BELOW - room * point[part] as f64 / most as f64;
            let _ = write!(path, "{}{x:.1} {y:.1}", if pen_down { "L" } else { "M" });
            if !pen_down {
                // A single point is a dot.
                let _ = write!(path, "l0.1 0");
            }
            pen_down = true;
        }
        let _ = write!(inside, "<path class=\"line {class}\" d=\"{path}\" stroke-linecap=\"round\"/>");
    }
    let last = points.iter().rev().flatten().next();
    let description = last.map_or_else(
        || "nothing to show".to_owned(),
        |[p50, p95]| format!("p50 (whole line) last {}, p95 (dashed) last {}", duration(*p50), duration(*p95)),
    );
    frame(title, &description, &duration(most), ends, &inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let chart = bars("Attempts", &[[3, 1, 0], [0, 0, 0], [5, 0, 2]], ["1 h ago", "now"]);
        assert!(chart.contains("aria-label=\"Attempts: 8 delivered, 1 failed, 2 dropped\""), "{chart}");
        assert_eq!(chart.matches("<rect").count(), 4);
        let empty = lines("Times", &[None, None], ["a", "b"]);
        assert!(empty.contains("nothing to show") && !empty.contains("NaN"), "{empty}");
        let times = lines("Times", &[Some([1_000, 2_000]), None, Some([3_000, 4_000])], ["a", "b"]);
        assert_eq!(times.matches('M').count(), 4, "two lines of two pieces");
    }
}
