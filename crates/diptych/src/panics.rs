//! Panics of the application's code, as errors.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs code of the application and turns a panic into an error text.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let outcome = catch_unwind(AssertUnwindSafe(run));
    outcome.map_err(|panic| format!("it panicked: {}", panic_text(&*panic)))
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no message)").to_owned()
}
