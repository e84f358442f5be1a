//! The digest of a view as it is now.

use diptych::{App, Position, View, digest::StateDigest, query::ViewDigest};
use serde::Serialize;

/// The position of the view, and the digest of its state there.
pub(crate) async fn view_digest<V: View + Serialize>(app: &App) -> (Position, StateDigest) {
    let answer = app.query(ViewDigest::<V>::new()).await.unwrap();
    (answer.position, answer.value.unwrap())
}
