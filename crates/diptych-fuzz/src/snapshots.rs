//! A target over the snapshot of a view. Whatever is in it, the answer is the same.

use std::sync::{Arc, LazyLock};

use diptych::snapshot::{MemorySnapshots, Snapshots};

use crate::{
    domain::{All, Shelves, ShelvesAnswer, app, runtime},
    observe::note,
};

/// Bytes of the check at the end of a snapshot.
const CHECK: usize = 32;

/// The name and the bytes of a snapshot, and the answer of its view.
static KEPT: LazyLock<(String, Vec<u8>, ShelvesAnswer)> = LazyLock::new(|| {
    runtime().block_on(async {
        let place = Arc::new(MemorySnapshots::default());
        let app = app(Some(place.clone())).await;
        let answer = app.query(All::default()).strong().await.unwrap();
        app.view::<Shelves>().unwrap().save().await.unwrap();
        let name = place.names("").unwrap().pop().unwrap();
        let bytes = place.load(&name).unwrap().unwrap();
        let answer = ShelvesAnswer::clone(&answer);
        app.stop().await.unwrap();
        (name, bytes, answer)
    })
});

/// Bit 0 of the first byte says that the check at the end is computed anew.
pub(crate) fn snapshot(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1
        && let Some((content, check)) = bytes.split_last_chunk_mut::<CHECK>()
    {
        *check = *blake3::hash(content).as_bytes();
    }
    let (name, _, expected) = &*KEPT;
    let place = Arc::new(MemorySnapshots::default());
    place.save(name, &bytes).unwrap();
    runtime().block_on(async {
        let app = app(Some(place.clone())).await;
        let answer = app.query(All::default()).strong().await.unwrap();
        assert_eq!(ShelvesAnswer::clone(&answer), *expected, "the answer of a view");
        // A snapshot of no use is removed when it is read.
        let is_kept = place.load(name).unwrap().is_some();
        note(if is_kept { "used" } else { "removed" });
        app.stop().await.unwrap();
    });
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    let bytes = &KEPT.1;
    vec![[&[0], bytes.as_slice()].concat(), [&[1], bytes.as_slice()].concat(), vec![0; 40]]
}
