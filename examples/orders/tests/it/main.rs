//! The example as a user starts it: as programs that are killed.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)] // A test panics.

mod browser;
mod look;

use std::{env, process::Command};

/// The application and the provider are killed at random, and the provider has the last word on who
/// was charged.
#[test]
fn killed_orders_are_charged_once_or_wait_for_a_person() {
    let seconds = env::var("DIPTYCH_KILL_SECONDS").unwrap_or_else(|_| "8".to_owned());
    let output = Command::new(env!("CARGO_BIN_EXE_example-orders"))
        .args(["--kill-for", &format!("{seconds}s"), "--rate", "20"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("charges, none twice"), "{said}\n{errors}");
    assert!(!said.contains(" 0 orders"), "{said}\n{errors}");
}
