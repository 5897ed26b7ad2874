//! Small line charts in a row, as SVG: readable in light and dark, by their labels alone.

use std::fmt::Write as _;

/// Chart: points with a name, a position and two heights.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// True to draw a line between the points.
    pub(crate) connected: bool,
    pub(crate) points: Vec<(String, f64, [f64; 2])>,
}

const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 16.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 156.0;

/// Draws charts in a row. Both axes are logarithmic, so that a straight line is a power.
pub(crate) fn svg(plots: &[Plot]) -> String {
    let width = WIDTH * plots.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"Time of a delivery against what grows\">\n\
         <style>text{{font:11px system-ui,sans-serif;fill:#333}}.title{{font-weight:600}}.dim{{fill:#777}}.wall{{stroke:#888;fill:none;stroke-width:2;stroke-dasharray:4 3}}.cpu{{stroke:#1769aa;fill:none;stroke-width:2}}.on{{fill:#1769aa}}line{{stroke:#ccc}}rect{{fill:#fff}}\
         @media (prefers-color-scheme:dark){{text{{fill:#ddd}}.dim{{fill:#999}}.cpu{{stroke:#7ab8f5}}.on{{fill:#7ab8f5}}line{{stroke:#444}}rect{{fill:#161b22}}}}</style>\n\
         <rect width=\"{width}\" height=\"{HEIGHT}\"/>\n"
    );
    for (index, plot) in plots.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({} 0)\">", WIDTH * index as f64);
        plot.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

impl Plot {
    fn draw(&self, svg: &mut String) {
        let all = || self.points.iter().flat_map(|(_, _, heights)| heights.iter().copied());
        // The axis begins below the lowest value, so that a flat line looks flat.
        let low = all().fold(f64::MAX, f64::min) / 3.0;
        let high = all().fold(f64::MIN, f64::max) * 1.5;
        let first = self.points.first().map_or(1.0, |point| point.1);
        let last = self.points.last().map_or(1.0, |point| point.1);
        let span = (last / first).log10().max(1e-9);
        let x = |at: f64| LEFT + 12.0 + (RIGHT - LEFT - 24.0) * (at / first).log10() / span;
        let y = |height: f64| BOTTOM - (BOTTOM - TOP) * (height / low).log10() / (high / low).log10();
        let _ = writeln!(svg, "<text class=\"title\" x=\"{LEFT}\" y=\"18\">{}</text>", self.title);
        let _ = writeln!(svg, "<text class=\"dim\" x=\"{LEFT}\" y=\"34\">{}</text>", self.subtitle);
        let legend = if self.connected { "µs a delivery: — CPU, - - wall" } else { "CPU µs a delivery" };
        let _ = writeln!(svg, "<text class=\"dim\" x=\"{LEFT}\" y=\"48\">{legend}</text>");
        let _ = writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{BOTTOM}\" x2=\"{RIGHT}\" y2=\"{BOTTOM}\"/>");
        for (kind, which) in [("wall", 0), ("cpu", 1)].into_iter().filter(|_| self.connected) {
            let points: Vec<String> =
                self.points.iter().map(|(_, at, heights)| format!("{:.1},{:.1}", x(*at), y(heights[which]))).collect();
            let _ = writeln!(svg, "<polyline class=\"{kind}\" points=\"{}\"/>", points.join(" "));
        }
        for (name, at, [_, cpu]) in &self.points {
            let x = x(*at);
            let y = y(*cpu);
            let _ = writeln!(svg, "<circle class=\"on\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{cpu:.0}</text>", y - 7.0);
            let _ = writeln!(
                svg,
                "<text class=\"dim\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                BOTTOM + 16.0
            );
        }
    }
}
