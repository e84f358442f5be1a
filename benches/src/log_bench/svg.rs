//! Line charts as SVG, readable on a light and on a dark background.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 48.0;
const PLOT_HEIGHT: f64 = 320.0;
const BELOW: f64 = 58.0;
const LEGEND_ROW: f64 = 22.0;
const COLUMNS: usize = 2;

/// Colours on a light and on a dark background. CSS classes choose between them.
const COLOURS: [(&str, &str); 8] = [
    ("#0b5fa5", "#5fb0f5"),
    ("#c2410c", "#ff9257"),
    ("#2e7d32", "#74c97a"),
    ("#8e24aa", "#d58be6"),
    ("#6b7280", "#a3acb9"),
    ("#111827", "#f3f4f6"),
    ("#b45309", "#fbbf24"),
    ("#0f766e", "#5eead4"),
];

#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Index into [`COLOURS`], so that a name has one colour in all charts.
    pub(crate) colour: usize,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Series {
    /// Whether each point gets a circle. Few points are single measurements, many points are a
    /// curve.
    fn is_measured_at_points(&self) -> bool {
        self.points.len() <= 8
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x_label: &'static str,
    pub(crate) y_label: &'static str,
    /// The marks on the x axis: values and labels.
    pub(crate) x_ticks: Vec<(f64, String)>,
    pub(crate) series: Vec<Series>,
}

/// Maps numbers to places along an axis with a logarithmic scale.
struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let (least, most) = (self.least.ln(), self.most.ln());
        let part = if most > least { (value.ln() - least) / (most - least) } else { 0.5 };
        self.from + part * (self.to - self.from)
    }
}

impl Chart {
    /// `None` if there is no point to draw.
    pub(crate) fn to_svg(&self) -> Option<String> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (xs, ys) = (points().map(|point| point.0), points().map(|point| point.1));
        let ticks = self.x_ticks.iter().map(|tick| tick.0);
        let (x_least, x_most) = bounds(xs.chain(ticks))?;
        let (y_least, y_most) = bounds(ys)?;
        let y_ticks = y_ticks(y_least, y_most);
        let (y_least, y_most) = bounds(y_ticks.iter().copied().chain([y_least, y_most]))?;
        let bottom = TOP + PLOT_HEIGHT;
        let x = Axis { least: x_least, most: x_most, from: LEFT + 14.0, to: WIDTH - RIGHT - 14.0 };
        let y = Axis { least: y_least, most: y_most, from: bottom, to: TOP };
        let rows = self.series.len().div_ceil(COLUMNS) as f64;
        let height = bottom + BELOW + rows * LEGEND_ROW + 8.0;
        let mut svg = head(height);
        self.axes(&mut svg, &x, &y, &y_ticks);
        for (number, series) in self.series.iter().enumerate() {
            line(&mut svg, series, &x, &y);
            legend(&mut svg, series, number, bottom + BELOW);
        }
        svg.push_str("</svg>\n");
        Some(svg)
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis, y_ticks: &[f64]) {
        let bottom = TOP + PLOT_HEIGHT;
        let (right, middle) = (WIDTH - RIGHT, TOP + PLOT_HEIGHT / 2.0);
        text(svg, LEFT, 24.0, "title", &self.title);
        for tick in y_ticks {
            let at = y.at(*tick);
            rule(svg, "grid", [LEFT, at, right, at]);
            text(svg, LEFT - 8.0, at + 4.0, "end", &short(*tick));
        }
        for (tick, label) in &self.x_ticks {
            let at = x.at(*tick);
            rule(svg, "grid", [at, TOP, at, bottom]);
            text(svg, at, bottom + 18.0, "mid", label);
        }
        rule(svg, "axis", [LEFT, bottom, right, bottom]);
        rule(svg, "axis", [LEFT, TOP, LEFT, bottom]);
        text(svg, f64::midpoint(LEFT, right), bottom + 38.0, "mid", self.x_label);
        let label = escaped(self.y_label);
        let _ = writeln!(
            svg,
            r#"<text class="mid" transform="translate(18 {middle:.1}) rotate(-90)">{label}</text>"#
        );
    }
}

fn head(height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\">\n<style>\n\
         text {{ font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: #24292f; }}\n\
         .title {{ font-size: 15px; font-weight: 600; }}\n\
         .mid {{ text-anchor: middle; }}\n.end {{ text-anchor: end; }}\n\
         .back {{ fill: #ffffff; }}\n.grid {{ stroke: #e3e6ea; }}\n\
         .axis {{ stroke: #8b949e; }}\n.line {{ stroke-width: 2; }}\npolyline {{ fill: none; }}\n"
    );
    for (number, (light, _)) in COLOURS.iter().enumerate() {
        let _ = writeln!(svg, ".s{number} {{ stroke: {light}; }} .d{number} {{ fill: {light}; }}");
    }
    svg.push_str(
        "@media (prefers-color-scheme: dark) {\ntext { fill: #e6edf3; }\n\
         .back { fill: #0d1117; }\n.grid { stroke: #272d36; }\n.axis { stroke: #6e7681; }\n",
    );
    for (number, (_, dark)) in COLOURS.iter().enumerate() {
        let _ = writeln!(svg, ".s{number} {{ stroke: {dark}; }} .d{number} {{ fill: {dark}; }}");
    }
    svg.push_str("}\n</style>\n<rect class=\"back\" width=\"100%\" height=\"100%\"/>\n");
    svg
}

fn line(svg: &mut String, series: &Series, x: &Axis, y: &Axis) {
    let points: Vec<_> = series.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
    let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let (colour, dash) = (series.colour % COLOURS.len(), dash(series));
    let _ =
        writeln!(svg, r#"<polyline class="line s{colour}"{dash} points="{}"/>"#, path.join(" "));
    if series.is_measured_at_points() {
        points.into_iter().for_each(|(x, y)| mark(svg, series, x, y));
    }
}

/// Draws the circle of a point. Circles of a dashed line are empty.
fn mark(svg: &mut String, series: &Series, x: f64, y: f64) {
    let colour = series.colour % COLOURS.len();
    let fill = if series.dashed { "back".to_owned() } else { format!("d{colour}") };
    let _ =
        writeln!(svg, r#"<circle class="{fill} line s{colour}" cx="{x:.1}" cy="{y:.1}" r="3.5"/>"#);
}

fn legend(svg: &mut String, series: &Series, number: usize, top: f64) {
    let column = (WIDTH - LEFT - RIGHT) / COLUMNS as f64;
    let x = LEFT + (number % COLUMNS) as f64 * column;
    let y = top + (number / COLUMNS) as f64 * LEGEND_ROW + LEGEND_ROW / 2.0;
    let (colour, dash, end) = (series.colour % COLOURS.len(), dash(series), x + 26.0);
    let _ = writeln!(
        svg,
        r#"<line class="line s{colour}"{dash} x1="{x}" y1="{y}" x2="{end}" y2="{y}"/>"#
    );
    if series.is_measured_at_points() {
        mark(svg, series, x + 13.0, y);
    }
    text(svg, x + 34.0, y + 4.5, "name", &series.name);
}

fn dash(series: &Series) -> &'static str {
    if series.dashed { r#" stroke-dasharray="6 4""# } else { "" }
}

fn rule(svg: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(
        svg,
        r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
    );
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, what: &str) {
    let what = escaped(what);
    let _ = writeln!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{what}</text>"#);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let usable = values.filter(|value| *value > 0.0 && value.is_finite());
    usable.fold(None, |bounds, value| {
        let (least, most) = bounds.unwrap_or((value, value));
        Some((f64::min(least, value), f64::max(most, value)))
    })
}

/// Ticks at the powers of ten around the values, and at 2 and 5 times each power if there are few.
fn y_ticks(least: f64, most: f64) -> Vec<f64> {
    let middle = (least * most).sqrt();
    // Widens a narrow range, so that a small difference does not look like a large one.
    let (least, most) = (least.min(middle / 3.0), most.max(middle * 3.0));
    let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let steps: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * power_of(power)));
    let all: Vec<_> = all.collect();
    // Keeps the ticks from the last at or below `least` to the first at or above `most`.
    let from = all.iter().rposition(|tick| *tick <= least).unwrap_or(0);
    let to = all.iter().position(|tick| *tick >= most).unwrap_or(all.len() - 1);
    all[from..=to.max(from)].to_vec()
}

fn power_of(power: i32) -> f64 {
    10_f64.powi(power)
}

/// A number in short form, such as `1.5k` or `16M`.
pub(crate) fn short(number: f64) -> String {
    let (number, letter) = match number {
        large if large >= 1e6 => (large / 1e6, "M"),
        middle if middle >= 1e3 => (middle / 1e3, "k"),
        small => (small, ""),
    };
    let digits = if number >= 1.0 { 3 } else { 6 };
    let text = format!("{number:.digits$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_enclose_all_values() {
        assert_eq!(y_ticks(3.0, 40.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(y_ticks(2.0, 30_000.0).len(), 6);
        assert_eq!(y_ticks(10.0, 10.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
    }

    #[test]
    fn thousands_and_millions_get_a_letter() {
        let shorts = [0.05, 5.0, 1_500.0, 64e3, 16e6].map(short);
        assert_eq!(shorts, ["0.05", "5", "1.5k", "64k", "16M"]);
    }

    #[test]
    fn a_chart_without_points_is_none() {
        let series = |points| Series { name: "a<b".into(), colour: 0, dashed: false, points };
        let chart = |points| Chart {
            title: "t".into(),
            x_label: "x",
            y_label: "y",
            x_ticks: Vec::new(),
            series: vec![series(points)],
        };
        assert!(chart(Vec::new()).to_svg().is_none());
        let svg = chart(vec![(1.0, 2.0), (8.0, 3.0)]).to_svg().unwrap();
        assert!(svg.contains("a&lt;b") && svg.ends_with("</svg>\n"));
    }
}
