//! The end of a program that runs until it is told to end.

use tokio::sync::watch::{self, Receiver};

use crate::exit::{Exit, Failure};

/// Returns a receiver that becomes true on Ctrl-C or on a termination signal. A second signal ends
/// the program at once.
pub(crate) fn on_signal() -> Result<Receiver<bool>, Failure> {
    let (stop, stopped) = watch::channel(false);
    let handler = move || {
        if stop.send_replace(true) {
            std::process::exit(Exit::Failed as i32);
        }
    };
    match ctrlc::set_handler(handler) {
        Ok(()) => Ok(stopped),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot wait for the end: {error}"))),
    }
}

/// Waits until the receiver becomes true.
pub(crate) async fn stopped(mut stop: Receiver<bool>) {
    // Ignored: the sender lives as long as the program, so this cannot fail.
    let _ = stop.wait_for(|stop| *stop).await;
}
