//! The example as a user starts it: as programs that are killed.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)] // A test panics.
#![allow(clippy::print_stdout)] // A test tells its seed.

mod browser;
#[path = "../../../orders/tests/it/look.rs"]
mod look;
mod members;
mod services;

use std::{env, process::Command};

/// Orders that come in a second.
const RATE: u64 = 10;

/// All members are killed at random, the provider has the last word on the money, and each service
/// folds its log again while the others are down.
#[test]
fn killed_members_charge_each_order_once_or_leave_it_to_a_person() {
    let seconds = env::var("DIPTYCH_KILL_SECONDS").map_or(8, |text| text.parse().unwrap());
    let seed = fastrand::u64(..1_000_000);
    println!("the seed is {seed}");
    let orders = seconds * RATE;
    let output = Command::new(env!("CARGO_BIN_EXE_example-fulfilment"))
        .args(["run", "--kills", "--port", "0", "--orders", &orders.to_string()])
        .args(["--rate", &RATE.to_string(), "--seed", &seed.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    for line in ["verdict: passed", &format!("\n{orders} orders: ")] {
        assert!(said.contains(line), "{said}\n{errors}");
    }
    assert!(!said.contains("\n0 kills"), "{said}\n{errors}");
}
