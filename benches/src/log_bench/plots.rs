//! Draws the results as charts.

use std::{fs, io, path::Path};

use diptych_benches::{engines::KINDS, latency::Latencies, table::Table};

use crate::svg::{Chart, Series, short};

/// Marks on the x axis of a distribution. At `n`, one operation in `n` took longer.
const PARTS: [(f64, &str); 5] =
    [(2.0, "50 %"), (10.0, "90 %"), (100.0, "99 %"), (1e3, "99.9 %"), (1e4, "99.99 %")];

const DISK: &str = "the disk: one sync for all threads";

type Points = Vec<(f64, f64)>;
type NamedLatencies = Vec<(&'static str, Latencies)>;

/// Collects the points that the parts measure.
#[derive(Default)]
pub(crate) struct Plots {
    by_writers: Vec<(&'static str, Points)>,
    append_latencies: NamedLatencies,
    read_latencies: NamedLatencies,
    opened: Vec<(&'static str, Points)>,
    opened_after_kill: Vec<(&'static str, Points)>,
    batches_by_size: Points,
    threads_by_size: Points,
    open_by_size: Points,
}

impl Plots {
    pub(crate) fn writers(&mut self, threads: u64, table: &Table) {
        collect(&mut self.by_writers, threads, table, |name| {
            // The rows of the bare disk have different names and form one line. The growing file
            // has no line.
            match name.strip_prefix("raw: ") {
                None => Some(name),
                Some(raw) => (!raw.contains("grows")).then_some(DISK),
            }
        });
    }

    pub(crate) fn append_latencies(&mut self, latencies: NamedLatencies) {
        self.append_latencies = latencies;
    }

    pub(crate) fn read_latencies(&mut self, latencies: NamedLatencies) {
        self.read_latencies = latencies;
    }

    pub(crate) fn opened(&mut self, events: u64, closed: &Table, killed: &Table) {
        collect(&mut self.opened, events, closed, Some);
        collect(&mut self.opened_after_kill, events, killed, Some);
    }

    /// Adds the figures of one size: events per second in batches and by threads, and milliseconds
    /// to open.
    pub(crate) fn grown(&mut self, events: u64, batches: f64, threads: f64, open: f64) {
        let at = events as f64;
        self.batches_by_size.push((at, batches));
        self.threads_by_size.push((at, threads));
        self.open_by_size.push((at, open));
    }

    /// Writes a file for each chart that has points.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for (name, chart) in self.charts() {
            if let Some(svg) = chart.to_svg() {
                fs::write(folder.join(name).with_extension("svg"), svg)?;
            }
        }
        Ok(())
    }

    fn charts(&self) -> [(&'static str, Chart); 6] {
        let growing = |title: &str, y_label, lines: &[(&str, &Points)]| {
            let series = lines.iter().zip(0..).map(|((name, points), colour)| {
                let (name, points) = ((*name).to_owned(), (*points).clone());
                Series { name, colour, dashed: false, points }
            });
            by_size(title, y_label, series.collect())
        };
        let batches = ("1 thread, 1,000 events in an append", &self.batches_by_size);
        let threads = ("64 threads, 1 event in an append", &self.threads_by_size);
        [
            ("writes-by-threads", self.by_threads()),
            ("append-latency", distribution("1 thread appends", &self.append_latencies)),
            ("read-latency", distribution("1 thread reads accounts", &self.read_latencies)),
            ("open-by-size", self.opening()),
            (
                "growth-writes",
                growing("Appends to a log that grows", "events/s", &[batches, threads]),
            ),
            (
                "growth-open",
                growing("Opening a log that grows", "ms", &[("open", &self.open_by_size)]),
            ),
        ]
    }

    fn by_threads(&self) -> Chart {
        let ticks = self.by_writers.iter().flat_map(|(_, points)| points).map(|point| point.0);
        Chart {
            title: "Appends of one event, each durable".to_owned(),
            x_label: "threads that append",
            y_label: "events/s",
            x_ticks: ticks_at(ticks),
            series: self.by_writers.iter().map(|(name, points)| series(name, points)).collect(),
        }
    }

    fn opening(&self) -> Chart {
        let named = |suffix: &str, dashed, all: &[(&'static str, Points)]| -> Vec<Series> {
            let of = |(name, points): &(&'static str, Points)| Series {
                name: format!("{name}, {suffix}"),
                dashed,
                ..series(name, points)
            };
            all.iter().map(of).collect()
        };
        let closed = named("closed", false, &self.opened);
        let killed = named("killed", true, &self.opened_after_kill);
        // The legend shows both lines of a log next to each other.
        let pairs = closed.into_iter().zip(killed).flat_map(|(closed, killed)| [closed, killed]);
        by_size("Opening a log, after it was closed or killed", "ms", pairs.collect())
    }
}

fn by_size(title: &str, y_label: &'static str, series: Vec<Series>) -> Chart {
    let ticks = series.iter().flat_map(|series| &series.points).map(|point| point.0);
    let x_ticks = ticks_at(ticks);
    Chart { title: title.to_owned(), x_label: "events in the log", y_label, x_ticks, series }
}

fn distribution(what: &str, latencies: &[(&'static str, Latencies)]) -> Chart {
    let points = |latencies: &Latencies| -> Points {
        // Ten steps for each power of ten, up to the number of measurements.
        let parts = (0..=37).map(|step| 2.0 * 10_f64.powf(f64::from(step) / 10.0));
        let most = latencies.count() as f64;
        let parts = parts.take_while(|part| *part <= most.min(1e4));
        parts.map(|part| (part, latencies.quantile(1.0 - 1.0 / part))).collect()
    };
    Chart {
        title: format!("{what}: how long each took"),
        x_label: "this part took no longer",
        y_label: "us",
        x_ticks: PARTS.map(|(part, label)| (part, label.to_owned())).to_vec(),
        series: latencies.iter().map(|(name, all)| series(name, &points(all))).collect(),
    }
}

/// A log has one colour in all charts. The disk is a dashed line.
fn series(name: &str, points: &Points) -> Series {
    let kind = KINDS.iter().position(|kind| kind.name == name);
    let colour = kind.unwrap_or(if name.contains("grows") { 4 } else { 5 });
    Series { name: name.to_owned(), colour, dashed: kind.is_none(), points: points.clone() }
}

/// Adds a point for each row that `shown` gives a name in the chart.
fn collect(
    all: &mut Vec<(&'static str, Points)>,
    at: u64,
    table: &Table,
    shown: impl Fn(&'static str) -> Option<&'static str>,
) {
    for row in &table.rows {
        let (Some(figure), Some(shown)) = (table.median_of(row.name), shown(row.name)) else {
            continue;
        };
        let point = (at as f64, figure);
        match all.iter_mut().find(|(name, _)| *name == shown) {
            Some((_, points)) => points.push(point),
            None => all.push((shown, vec![point])),
        }
    }
}

fn ticks_at(values: impl Iterator<Item = f64>) -> Vec<(f64, String)> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values.into_iter().map(|value| (value, short(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sizes_get_one_tick() {
        let ticks = ticks_at([4e6, 1e6, 4e6].into_iter());
        assert_eq!(ticks, [(1e6, "1M".to_owned()), (4e6, "4M".to_owned())]);
    }
}
