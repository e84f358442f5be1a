//! Measures the bare disk. Every part that writes to a disk shows this figure next to the others.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

pub const NAME: &str = "raw: 310 bytes appended, fdatasync";

/// Syncs per second of one thread that appends the bytes of one event to a file before each sync.
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
