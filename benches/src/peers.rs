//! Those that Diptych is measured beside.

pub(crate) mod cqrs_es;
pub(crate) mod tephra;
