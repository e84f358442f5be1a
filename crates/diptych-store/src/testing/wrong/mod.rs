//! Stores that are deliberately wrong.
