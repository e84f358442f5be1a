//! Tests that explore schedules of the threads of a log: see `docs/explain/schedules.md`. They are
//! a crate of their own, because they have a build of their own: this one compiles little else.
