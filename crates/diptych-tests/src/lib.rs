//! Tests of the whole workspace. The examples of the pages for readers are compiled and run here
//! as documentation tests; the tidy test (in `tests/it/`) sees to it that none is forgotten.

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../CONTRIBUTING.md")]
pub struct Contributing;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/streams.md")]
pub struct Streams;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/evolution.md")]
pub struct Evolution;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/commands.md")]
pub struct Commands;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/projections.md")]
pub struct Projections;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/time.md")]
pub struct Time;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/views.md")]
pub struct Views;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/http.md")]
pub struct Http;
