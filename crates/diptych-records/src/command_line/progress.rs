//! A line on standard error with the rows that are done, shown only if that is a terminal.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(100);

/// Shows the number of rows that are done.
pub(super) struct RowProgress(ProgressBar);

impl RowProgress {
    pub(super) fn new() -> RowProgress {
        if !io::stderr().is_terminal() {
            return RowProgress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        // The template is a valid constant. If it were not, a line in the default style would do.
        let style = ProgressStyle::with_template("{spinner} {human_pos} rows, {per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(REDRAW);
        RowProgress(bar)
    }

    pub(super) fn rows(&self, done: u64) {
        self.0.set_position(done);
    }
}

/// Clears the line, so that it is not mistaken for a result.
impl Drop for RowProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
