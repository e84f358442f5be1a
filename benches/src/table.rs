//! Contenders that take turns, and what is printed of them.

use std::{
    fmt,
    io::{self, Write},
    thread,
};

use serde_json::{Value, json};

use crate::options::Options;

/// One that is measured, by what it is called in the table.
pub(crate) struct Contender<'a> {
    name: &'static str,
    against: Option<&'static str>,
    /// Has one turn, in the round of this number, and says how many a second it did.
    turn: Box<dyn FnMut(u64) -> f64 + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: &'static str, turn: impl FnMut(u64) -> f64 + 'a) -> Contender<'a> {
        Contender { name, against: None, turn: Box::new(turn) }
    }

    /// The same, compared with this row and not with the baseline of the table.
    pub(crate) fn against(mut self, name: &'static str) -> Contender<'a> {
        self.against = Some(name);
        self
    }
}

/// What a contender did a second, in each round.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The row that it is compared with.
    pub(crate) against: &'static str,
    pub(crate) rates: Vec<f64>,
}

pub(crate) struct Table {
    /// The part, and what of it.
    pub(crate) title: &'static str,
    /// What is counted.
    pub(crate) unit: &'static str,
    /// The row that the others are compared with, if they do not say another.
    pub(crate) baseline: &'static str,
    /// Whether one caller does one after another, so that a rate is also the cost of one.
    pub(crate) one_caller: bool,
    /// What a reader must know to make sense of the figures.
    pub(crate) notes: &'static [&'static str],
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// Fills the table: in every round each has one turn, and each round begins with another.
    pub(crate) fn measure(
        mut self,
        options: &Options,
        mut contenders: Vec<Contender<'_>>,
    ) -> Table {
        contenders.retain(|one| one.name.contains(&options.name));
        let row = |one: &Contender<'_>| {
            let against = one.against.unwrap_or(self.baseline);
            Row { name: one.name, against, rates: Vec::new() }
        };
        self.rows = contenders.iter().map(row).collect();
        let count = contenders.len();
        for round in 0..options.rounds {
            for turn in 0..count {
                let at = (turn + round as usize) % count;
                progress(&format!("{}: round {}, {}", self.title, round + 1, self.rows[at].name));
                self.rows[at].rates.push((contenders[at].turn)(round));
            }
        }
        progress("");
        self
    }

    /// The rate of a row against its baseline's: the median of what it was in each round, because
    /// the two had their turns at about the same time there.
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
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        writeln!(f, "== {}", self.title)?;
        write!(f, "{:width$} {:>11} {:>11} {:>11}", self.unit, "median", "min", "max")?;
        if self.one_caller {
            write!(f, " {:>9}", "us each")?;
        }
        writeln!(f, " {:>7}", "ratio")?;
        for row in &self.rows {
            let (middle, least, most) = (median(&row.rates), least(&row.rates), most(&row.rates));
            write!(f, "{:width$} {middle:>11.0} {least:>11.0} {most:>11.0}", row.name)?;
            if self.one_caller {
                write!(f, " {:>9.2}", 1e6 / middle)?;
            }
            match self.ratio(row) {
                Some(ratio) => write!(f, " {ratio:>7.2}")?,
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

/// Everything that was measured, and how.
pub(crate) struct Report {
    rounds: u64,
    seconds: f64,
    cores: usize,
    pub(crate) tables: Vec<Table>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Report {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        Report { rounds: options.rounds, seconds: options.seconds, cores, tables: Vec::new() }
    }

    pub(crate) fn to_json(&self) -> String {
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

fn median(values: &[f64]) -> f64 {
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

/// One line that says what is going on, over the one before; beside what is printed as result.
pub(crate) fn progress(what: &str) {
    // Whoever does not see it misses nothing.
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
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!((least(&[3.0, 1.0, 2.0]), most(&[3.0, 1.0, 2.0])), (1.0, 3.0));
    }
}
