//! The digest of a view, as a query.

use std::marker::PhantomData;

use serde::Serialize;

use super::Query;
use crate::{
    digest::{DigestError, StateDigest, digest},
    view::View,
};

/// Asks for the digest of a view. Equal views have equal digests. So one comparison shows whether a
/// rebuilt view equals the live one, or whether a view of the past equals the view of that time.
///
/// It takes as long as serialising the view. The answer is an error if the view cannot be
/// serialised.
#[derive(Clone, Copy, Debug)]
pub struct ViewDigest<V>(PhantomData<fn() -> V>);

impl<V> ViewDigest<V> {
    /// The digest of the view `V`.
    pub fn new() -> ViewDigest<V> {
        ViewDigest(PhantomData)
    }
}

impl<V> Default for ViewDigest<V> {
    fn default() -> ViewDigest<V> {
        ViewDigest::new()
    }
}

impl<V: View + Serialize> Query for ViewDigest<V> {
    type View = V;
    type Answer = Result<StateDigest, DigestError>;

    fn answer(&self, view: &V) -> Result<StateDigest, DigestError> {
        digest(view)
    }
}
