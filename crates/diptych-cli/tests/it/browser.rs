//! The page of the demo, in a real browser against the built program.
//!
//! Each test has a browser of its own, and waits for what it wants to see, never for a time. When
//! one fails, what the page and the browser say is printed, and there is a picture of it.

mod demo;
mod driver;
mod hostile;
mod living;
mod page;
mod sending;
mod showing;
