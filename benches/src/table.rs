//! Contenders take turns, and tables show their results.

use std::{
    fmt,
    io::{self, Write},
    iter, thread,
};

use serde_json::{Value, json};

use crate::options::Options;

/// A measured implementation, with its name in the table.
pub struct Contender<'a> {
    name: &'static str,
    against: Option<&'static str>,
    /// Runs one turn in the round of this number. Returns the rate per second, or one figure for
    /// each table if there are several.
    turn: Box<dyn FnMut(u64) -> Vec<f64> + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: &'static str, mut turn: impl FnMut(u64) -> f64 + 'a) -> Contender<'a> {
        Contender::several(name, move |round| vec![turn(round)])
    }

    /// A contender whose turn returns one figure for each of several tables.
    pub fn several(name: &'static str, turn: impl FnMut(u64) -> Vec<f64> + 'a) -> Contender<'a> {
        Contender { name, against: None, turn: Box::new(turn) }
    }

    /// Compares this contender with the row of this name instead of the table's baseline.
    pub fn against(mut self, name: &'static str) -> Contender<'a> {
        self.against = Some(name);
        self
    }
}

/// The rate per second of one contender in each round.
pub struct Row {
    pub name: &'static str,
    /// Name of the row that this row is compared with.
    pub against: &'static str,
    pub rates: Vec<f64>,
}

pub struct Table {
    /// The part, then the case that this table measures.
    pub title: &'static str,
    /// The unit of the figures, such as `events/s`.
    pub unit: &'static str,
    /// Name of the row that all rows are compared with, unless a row names another.
    pub baseline: &'static str,
    /// Whether one caller works sequentially, so that a rate also gives the time of one operation.
    pub one_caller: bool,
    /// Remarks that a reader needs to interpret the figures.
    pub notes: &'static [&'static str],
    pub rows: Vec<Row>,
}

impl Table {
    /// A table without notes. Its baseline is the row with this name.
    pub fn new(title: String, unit: &'static str, baseline: &'static str) -> Table {
        let title = title.leak();
        Table { title, unit, baseline, one_caller: false, notes: &[], rows: Vec::new() }
    }

    #[must_use]
    pub fn notes(mut self, notes: &'static [&'static str]) -> Table {
        self.notes = notes;
        self
    }

    /// Runs all rounds and fills the table. Every contender has one turn in each round, and each
    /// round starts with another contender.
    pub fn measure(self, options: &Options, contenders: Vec<Contender<'_>>) -> Table {
        Table::measure_all(vec![self], options, contenders).remove(0)
    }

    /// Fills several tables at once: each turn returns one figure for each table.
    pub fn measure_all(
        mut tables: Vec<Table>,
        options: &Options,
        mut contenders: Vec<Contender<'_>>,
    ) -> Vec<Table> {
        contenders.retain(|one| one.name.contains(&options.name));
        for table in &mut tables {
            let row = |one: &Contender<'_>| {
                let against = one.against.unwrap_or(table.baseline);
                Row { name: one.name, against, rates: Vec::new() }
            };
            table.rows = contenders.iter().map(row).collect();
        }
        let count = contenders.len();
        for round in 0..options.rounds {
            for turn in 0..count {
                let at = (turn + round as usize) % count;
                let (title, name) = (tables[0].title, contenders[at].name);
                progress(&format!("{title}: round {}, {name}", round + 1));
                let figures = (contenders[at].turn)(round);
                let figures = figures.into_iter().chain(iter::repeat(f64::NAN));
                for (table, figure) in tables.iter_mut().zip(figures) {
                    table.rows[at].rates.push(figure);
                }
            }
        }
        progress("");
        // A table leaves out contenders that have no figure for it.
        for table in &mut tables {
            table.rows.retain(|row| row.rates.iter().any(|rate| !rate.is_nan()));
        }
        tables
    }

    /// A table of figures that were measured once, without turns.
    pub fn once(
        title: &'static str,
        unit: &'static str,
        baseline: &'static str,
        figures: impl IntoIterator<Item = (&'static str, f64)>,
    ) -> Table {
        let row = |(name, figure)| Row { name, against: baseline, rates: vec![figure] };
        let rows = figures.into_iter().map(row).collect();
        Table { title, unit, baseline, one_caller: false, notes: &[], rows }
    }

    /// The median of the row with this name.
    pub fn median_of(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(|row| median(&row.rates))
    }

    /// The rate of a row divided by its baseline's: the median of the ratios of all rounds. Both
    /// rates of a ratio are from one round, so that other load on the machine affected both.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let baseline = self.rows.iter().find(|baseline| baseline.name == row.against);
        let pairs = row.rates.iter().zip(&baseline?.rates);
        Some(median(&pairs.map(|(rate, baseline)| rate / baseline).collect::<Vec<_>>()))
    }

    fn to_json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name,
                "against": row.against,
                "rates": row.rates,
                "median": median(&row.rates),
                "min": least(&row.rates),
                "max": most(&row.rates),
                "ratio": self.ratio(row),
            })
        };
        json!({
            "title": self.title,
            "unit": self.unit,
            "baseline": self.baseline,
            "notes": self.notes,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.rows.iter().map(|row| row.name);
        let width = names.chain([self.unit]).map(|name| name.chars().count()).max().unwrap_or(0);
        writeln!(f, "== {}", self.title)?;
        write!(f, "{:width$} {:>11} {:>11} {:>11}", self.unit, "median", "min", "max")?;
        if self.one_caller {
            write!(f, " {:>9}", "us each")?;
        }
        writeln!(f, " {:>7}", "ratio")?;
        for row in &self.rows {
            let (middle, least, most) = (median(&row.rates), least(&row.rates), most(&row.rates));
            let digits = digits_of(middle);
            write!(f, "{:width$}", row.name)?;
            for figure in [middle, least, most] {
                write!(f, " {figure:>11.digits$}")?;
            }
            if self.one_caller {
                write!(f, " {:>9.2}", 1e6 / middle)?;
            }
            match self.ratio(row) {
                Some(ratio) => write!(f, " {ratio:>7.*}", digits_of(ratio).max(2))?,
                None => write!(f, " {:>7}", "-")?,
            }
            match row.against {
                against if against == row.name => writeln!(f, "  baseline")?,
                against if against == self.baseline => writeln!(f)?,
                against => writeln!(f, "  against {against}")?,
            }
        }
        for note in self.notes {
            writeln!(f, "* {note}")?;
        }
        Ok(())
    }
}

/// All tables of a run, and the settings of the run.
pub struct Report {
    rounds: u64,
    seconds: f64,
    cores: usize,
    pub tables: Vec<Table>,
}

impl Report {
    pub fn new(options: &Options) -> Report {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        Report { rounds: options.rounds, seconds: options.seconds, cores, tables: Vec::new() }
    }

    pub fn to_json(&self) -> String {
        let tables: Vec<_> = self.tables.iter().map(Table::to_json).collect();
        let report = json!({
            "rounds": self.rounds,
            "seconds": self.seconds,
            "cores": self.cores,
            "tables": tables,
        });
        format!("{report:#}\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { rounds, seconds, cores, .. } = self;
        writeln!(f, "{rounds} rounds, {seconds} s for each turn, {cores} cores")?;
        writeln!(f, "ratio: the rate against the baseline's in the same round, the median of that")
    }
}

/// Digits after the point. Small figures get more, so that close ones stay distinct.
fn digits_of(figure: f64) -> usize {
    match figure.abs() {
        large if large >= 1000.0 => 0,
        middle if middle >= 100.0 => 1,
        small if small >= 0.1 => 2,
        _ => 4,
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

/// Shows a progress line on the standard error, in place of the previous one. Results go to the
/// standard output.
pub fn progress(what: &str) {
    // The benchmark does not depend on its progress line, so errors are ignored.
    let _ = write!(io::stderr(), "\r\x1b[K{what}");
    let _ = io::stderr().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        let rates = |name, rates: &[f64]| Row { name, against: "a", rates: rates.to_vec() };
        let rows = vec![rates("a", &[1.0, 10.0, 100.0]), rates("b", &[2.0, 20.0, 300.0])];
        let (title, unit, baseline) = ("t", "u", "a");
        let table = Table { title, unit, baseline, one_caller: false, notes: &[], rows };
        assert_eq!(table.ratio(&table.rows[1]), Some(2.0));
        assert_eq!(table.ratio(&table.rows[0]), Some(1.0));
    }

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_the_middle_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!((least(&[3.0, 1.0, 2.0]), most(&[3.0, 1.0, 2.0])), (1.0, 3.0));
    }
}
