//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tempfile::TempDir;

use crate::workload::ACCOUNTS;

pub(crate) const USAGE: &str = "\
options:
  --rounds N     how often each contender has its turn (5)
  --seconds S    how long a turn is (3)
  --name TEXT    only contenders with this in their name (for a profiler; ratios may be missing)
  --only PART    framework, decide or hot (all of them)
  --events N     size of the logs of the part decide (1000000)
  --dir DIR      where logs are written: the disk that is measured (the folder for temporary files)
  --json FILE    where to write the figures as JSON as well";

/// With 20 for an account on average, none of them is left without.
const LEAST_EVENTS: u64 = 20 * ACCOUNTS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Framework,
    Decide,
    Hot,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: u64,
    pub(crate) seconds: f64,
    pub(crate) events: u64,
    pub(crate) json: Option<PathBuf>,
    /// Only contenders with this in their name have their turns.
    pub(crate) name: String,
    only: Option<Part>,
    dir: PathBuf,
}

impl Options {
    pub(crate) fn from_arguments(
        arguments: impl Iterator<Item = String>,
    ) -> Result<Options, String> {
        let mut options = Options {
            rounds: 5,
            seconds: 3.0,
            events: 1_000_000,
            json: None,
            name: String::new(),
            only: None,
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
                "--only" => options.only = Some(parsed(name, value)?),
                "--name" => options.name.clone_from(value),
                "--dir" => options.dir = value.into(),
                "--json" => options.json = Some(value.into()),
                _ => return Err(format!("there is no option {name}")),
            }
        }
        if options.rounds == 0 || Duration::try_from_secs_f64(options.seconds).is_err() {
            return Err("rounds are 1 or more, seconds are not negative".to_owned());
        }
        if options.events < LEAST_EVENTS {
            return Err(format!("events are {LEAST_EVENTS} or more: every account must have some"));
        }
        Ok(options)
    }

    pub(crate) fn parts(&self) -> Vec<Part> {
        self.only.map_or_else(|| vec![Part::Framework, Part::Decide, Part::Hot], |only| vec![only])
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

impl FromStr for Part {
    type Err = ();

    fn from_str(name: &str) -> Result<Part, ()> {
        match name {
            "framework" => Ok(Part::Framework),
            "decide" => Ok(Part::Decide),
            "hot" => Ok(Part::Hot),
            _ => Err(()),
        }
    }
}
