//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tempfile::TempDir;

pub(crate) const USAGE: &str = "\
options:
  --rounds N     how often each contender has its turn (5)
  --seconds S    how long a turn is (3)
  --name TEXT    only contenders with this in their name (for a profiler; ratios may be missing)
  --only PART    only this part (all of them; they are in the first lines of the program)
  --events N     size of the logs (1000000)
  --dir DIR      where logs are written: the disk that is measured (the folder for temporary files)
  --json FILE    where to write the figures as JSON as well";

/// What a program measures.
pub(crate) struct Program {
    /// By the names of `--only`, in their order.
    pub(crate) parts: &'static [&'static str],
    /// Logs may not be smaller.
    pub(crate) least_events: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: u64,
    pub(crate) seconds: f64,
    pub(crate) events: u64,
    pub(crate) json: Option<PathBuf>,
    /// Only contenders with this in their name have their turns.
    pub(crate) name: String,
    parts: Vec<&'static str>,
    dir: PathBuf,
}

impl Options {
    pub(crate) fn from_arguments(
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
                "--only" => options.parts.retain(|part| part == value),
                "--name" => options.name.clone_from(value),
                "--dir" => options.dir = value.into(),
                "--json" => options.json = Some(value.into()),
                _ => return Err(format!("there is no option {name}")),
            }
        }
        if options.rounds == 0 || Duration::try_from_secs_f64(options.seconds).is_err() {
            return Err("rounds are 1 or more, seconds are not negative".to_owned());
        }
        let Program { parts, least_events } = program;
        if options.events < *least_events {
            return Err(format!("events are {least_events} or more: every account must have some"));
        }
        if options.parts.is_empty() {
            return Err(format!("the parts are {}", parts.join(", ")));
        }
        Ok(options)
    }

    pub(crate) fn parts(&self) -> &[&'static str] {
        &self.parts
    }

    /// How long a turn is.
    pub(crate) fn turn(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// A folder that is gone when the part that asked for it is done.
    pub(crate) fn folder(&self) -> TempDir {
        tempfile::Builder::new().prefix("diptych-benches-").tempdir_in(&self.dir).unwrap()
    }
}

fn parsed<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value:?} is not a value of {name}"))
}
