//! What the disk gives: every other figure of a part that goes to it stands beside this one.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

pub const NAME: &str = "raw: 310 bytes appended, fdatasync";

/// How often a second one thread appends the bytes of one event to a file and syncs it.
pub fn syncs(folder: &Path, turn: Duration) -> f64 {
    let path = folder.join("raw");
    let file = File::create(&path).unwrap();
    let (mut syncs, start) = (0_u64, Instant::now());
    while syncs == 0 || start.elapsed() < turn {
        file.write_all_at(&[7; 310], syncs * 310).unwrap();
        file.sync_data().unwrap();
        syncs += 1;
    }
    let rate = syncs as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path).unwrap();
    rate
}
