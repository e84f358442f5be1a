//! The digest of the current state of a view.

use diptych::{App, Position, View, digest::StateDigest, query::ViewDigest};
use serde::Serialize;

/// Returns the position of the view and the digest of its state at that position.
pub(crate) async fn view_digest<V: View + Serialize>(app: &App) -> (Position, StateDigest) {
    let answer = app.query(ViewDigest::<V>::new()).await.unwrap();
    (answer.position, answer.value.unwrap())
}
