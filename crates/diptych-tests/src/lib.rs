//! Tests of the whole workspace. The examples in pages are compiled and run here as documentation
//! tests. The tidy test (in `tests/it/`) checks that every page with examples is listed here.

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
