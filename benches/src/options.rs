//! The command line of the programs.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tempfile::TempDir;

const USAGE: &str = "\
options:
  --rounds N     how often each contender has its turn (5)
  --seconds S    how long a turn is (3)
  --name TEXT    only contenders with this in their name (for a profiler; ratios may be missing)
  --only PARTS   only these parts, a comma between them (all of them)
  --events N     size of the logs (1000000)
  --dir DIR      where logs are written: the disk that is measured (the folder for temporary files)
  --json FILE    where to write the figures as JSON as well";

/// The only setting that is a folder. All others are numbers.
pub const PLOTS: &str = "--plots";

/// The parts and options of one program.
pub struct Program {
    /// Names for `--only`, in the order in which the parts run by default.
    pub parts: &'static [&'static str],
    /// The smallest value that `--events` may have.
    pub least_events: u64,
    /// Options of this program alone.
    pub settings: &'static [Setting],
}

/// An option of one program: one or several numbers, or a text.
pub struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub about: &'static str,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub rounds: u64,
    pub seconds: f64,
    pub events: u64,
    pub json: Option<PathBuf>,
    /// Only contenders whose name contains this text take part.
    pub name: String,
    parts: Vec<&'static str>,
    dir: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Options {
    pub fn from_arguments(
        program: &Program,
        arguments: impl Iterator<Item = String>,
    ) -> Result<Options, String> {
        let mut options = Options {
            rounds: 5,
            seconds: 3.0,
            events: 1_000_000,
            json: None,
            name: String::new(),
            parts: program.parts.to_vec(),
            dir: std::env::temp_dir(),
            settings: program.settings.iter().map(|one| (one.name, one.default.into())).collect(),
        };
        let arguments: Vec<_> = arguments.collect();
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} needs a value", pair.concat()));
            };
            match name.as_str() {
                "--rounds" => options.rounds = parsed(name, value)?,
                "--seconds" => options.seconds = parsed(name, value)?,
                "--events" => options.events = parsed(name, value)?,
                "--only" => options.parts = chosen(program.parts, value)?,
                "--name" => options.name.clone_from(value),
                "--dir" => options.dir = value.into(),
                "--json" => options.json = Some(value.into()),
                _ => options.set(name, value)?,
            }
        }
        if options.rounds == 0 || Duration::try_from_secs_f64(options.seconds).is_err() {
            return Err("rounds are 1 or more, seconds are not negative".to_owned());
        }
        let least_events = program.least_events;
        if options.events < least_events {
            return Err(format!("events are {least_events} or more: every account must have some"));
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let setting = self.settings.iter_mut().find(|(known, _)| *known == name);
        let (_, kept) = setting.ok_or_else(|| format!("there is no option {name}"))?;
        value.clone_into(kept);
        // Reports a bad number at once, and not an hour later when its part starts.
        if name != PLOTS { self.numbers(name).map(|_| ()) } else { Ok(()) }
    }

    /// The text of a setting, as given or by default; empty if the program has no such setting.
    pub fn text(&self, name: &str) -> &str {
        let setting = self.settings.iter().find(|(known, _)| *known == name);
        setting.map_or("", |(_, value)| value)
    }

    /// The numbers of a setting, which commas separate.
    ///
    /// # Errors
    /// A value that is not a number.
    pub fn numbers(&self, name: &str) -> Result<Vec<u64>, String> {
        self.text(name).split(',').map(|number| parsed(name, number)).collect()
    }

    /// The first number of a setting; 0 if it has none.
    pub fn number(&self, name: &str) -> u64 {
        self.numbers(name).ok().and_then(|numbers| numbers.first().copied()).unwrap_or(0)
    }

    /// These options with a single round.
    #[must_use]
    pub fn once(&self) -> Options {
        Options { rounds: 1, ..self.clone() }
    }

    pub fn parts(&self) -> &[&'static str] {
        &self.parts
    }

    /// The length of one turn.
    pub fn turn(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// A new folder below `--dir`. It is deleted when the caller drops the value.
    pub fn folder(&self) -> TempDir {
        tempfile::Builder::new().prefix("diptych-benches-").tempdir_in(&self.dir).unwrap()
    }
}

fn chosen(parts: &[&'static str], names: &str) -> Result<Vec<&'static str>, String> {
    let known = |name: &str| parts.iter().copied().find(|part| *part == name);
    let chosen: Option<Vec<_>> = names.split(',').map(known).collect();
    chosen.ok_or_else(|| format!("the parts are {}", parts.join(", ")))
}

/// The usage text of a program.
pub fn usage(program: &Program) -> String {
    let mut usage = format!("{USAGE}\n\nparts: {}", program.parts.join(", "));
    for (number, Setting { name, default, about }) in program.settings.iter().enumerate() {
        let head = if number == 0 { "\n\noptions of some parts:" } else { "" };
        let default = if default.is_empty() { "none" } else { default };
        usage.push_str(&format!("{head}\n  {name:<16} {about} ({default})"));
    }
    usage
}

fn parsed<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value:?} is not a value of {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        parts: &["a", "b", "c"],
        least_events: 1,
        settings: &[Setting { name: "--sizes", default: "1,2", about: "" }],
    };

    fn options(arguments: &str) -> Result<Options, String> {
        Options::from_arguments(&PROGRAM, arguments.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn parts_are_chosen_by_name() {
        assert_eq!(options("").unwrap().parts(), ["a", "b", "c"]);
        assert_eq!(options("--only c,a").unwrap().parts(), ["c", "a"]);
        assert_eq!(options("--only d").unwrap_err(), "the parts are a, b, c");
    }

    #[test]
    fn settings_are_numbers_that_the_program_names() {
        assert_eq!(options("").unwrap().numbers("--sizes"), Ok(vec![1, 2]));
        assert_eq!(options("--sizes 7").unwrap().number("--sizes"), 7);
        assert!(options("--sizes x").is_err());
        assert!(options("--other 1").is_err());
    }
}
