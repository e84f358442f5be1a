//! The page of the demo, in a real browser, served by the built program.
//!
//! Each test has its own browser, and waits for conditions, never for a fixed time. A failed test
//! prints the console and the state of the page, and saves a screenshot.

mod address;
mod axe;
mod clock;
mod demo;
mod driver;
mod findings;
mod hostile;
mod living;
mod loading;
mod page;
mod printing;
mod sending;
mod showing;
mod states;
mod trip;
