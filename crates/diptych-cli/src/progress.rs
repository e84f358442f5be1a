//! A progress bar on standard error, shown only if that is a terminal.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(100);

/// Shows the progress of a long operation.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// For work on `total_bytes` bytes, or on an unknown number of bytes.
    pub(crate) fn new(total_bytes: Option<u64>) -> Progress {
        match total_bytes {
            Some(total) => {
                let template = "{bar:30} {bytes}/{total_bytes} {msg} {bytes_per_sec}, {eta} left";
                Progress::shown(ProgressBar::new(total), template)
            }
            None => {
                let template = "{spinner} {bytes} {msg} {bytes_per_sec}";
                Progress::shown(ProgressBar::new_spinner(), template)
            }
        }
    }

    fn shown(bar: ProgressBar, template: &str) -> Progress {
        if !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        // The templates are valid constants. If one were not, a bar in the default style would do.
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("rate", rate));
        bar.enable_steady_tick(REDRAW);
        Progress(bar)
    }

    /// For work on `total` commands.
    pub(crate) fn of_commands(total: u64) -> Progress {
        let template = "{bar:30} {human_pos}/{human_len} commands {msg} {rate}, {eta} left";
        Progress::shown(ProgressBar::new(total), template)
    }

    /// For work on `total` events.
    pub(crate) fn of_events(total: u64) -> Progress {
        let template = "{bar:30} {human_pos}/{human_len} events {msg} {rate}, {eta} left";
        Progress::shown(ProgressBar::new(total), template)
    }

    /// For work on rows, whose number is not known.
    pub(crate) fn of_rows() -> Progress {
        let template = "{spinner} {human_pos} rows {rate}";
        Progress::shown(ProgressBar::new_spinner(), template)
    }

    /// Shows the number of rows that are done.
    pub(crate) fn rows(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Shows the number of items that are done, and of all.
    pub(crate) fn items(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// For work on standard input, whose size is known if it is a file.
    pub(crate) fn of_input() -> Progress {
        Progress::new(input_bytes())
    }

    pub(crate) fn bytes(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }

    /// Shows the number of commands that are done, and the day that they have reached.
    pub(crate) fn commands(&self, done: u64, day: &str) {
        self.0.set_position(done);
        self.0.set_message(day.to_owned());
    }

    /// Shows the number of events that are done, and the work that is done on them.
    pub(crate) fn events_of(&self, work: &'static str, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
        self.0.set_message(work);
    }

    pub(crate) fn events(&self, done: u64) {
        self.0.set_message(format!("{} events", HumanCount(done)));
    }

    /// Hides the bar while `print` runs, because both may be on one terminal.
    pub(crate) fn print<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    /// Replaces the bar by a line that says what was done and how long it took.
    pub(crate) fn finish(&self, done: &str) {
        self.0.finish_and_clear();
        if !self.0.is_hidden() {
            let took = self.0.elapsed().as_secs_f64();
            // Ignored: there is no other place to report that standard error is closed.
            let _ = writeln!(io::stderr(), "{done} in {took:.1} s");
        }
    }
}

/// Writes the rate as a whole number per second.
fn rate(state: &ProgressState, to: &mut dyn fmt::Write) {
    // Writing to a string does not fail.
    let _ = write!(to, "{}/s", HumanCount(state.per_sec() as u64));
}

/// Clears the bar when the work fails, so that it is not mistaken for a result.
impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(unix)]
fn input_bytes() -> Option<u64> {
    use std::{fs::File, os::fd::AsFd};

    let input = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = input.metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}

#[cfg(not(unix))]
fn input_bytes() -> Option<u64> {
    None
}
