//! The promises of the simulated disk to tests: each effect that the disk may have occurs for some
//! seed, and no other effect occurs for any seed.

use std::{collections::BTreeSet, io::ErrorKind, path::Path, sync::Arc};

use super::{Fault, Operation, Sabotage, SimulatedDisk, file::SECTOR};
use crate::disk::{Disk, DiskFile, LockError};

const SEEDS: u64 = 400;

fn folder() -> &'static Path {
    Path::new("/log")
}

fn path() -> &'static Path {
    Path::new("/log/file")
}

/// A disk with a durable folder, and in it a durable file with these bytes.
fn disk_with(bytes: &[u8]) -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::new(1);
    disk.create_dir(folder()).unwrap();
    let file = disk.create(path(), 0).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync_dir(folder()).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

fn content(disk: &SimulatedDisk) -> Vec<u8> {
    disk.map(path()).unwrap().to_vec()
}

/// The content of the file after a loss of power, over all seeds.
fn survivors(disk: &SimulatedDisk) -> BTreeSet<Vec<u8>> {
    (0..SEEDS).map(|seed| content(&disk.power_loss(seed))).collect()
}

#[test]
fn synced_bytes_in_a_synced_folder_survive_every_loss_of_power() {
    let (disk, file) = disk_with(b"first");
    file.write_at(5, &[7; 3 * SECTOR]).unwrap();
    file.write_at(0, b"FIRST").unwrap();
    file.sync().unwrap();
    let expected = content(&disk);
    assert_eq!(survivors(&disk), BTreeSet::from([expected]));
}

#[test]
fn unsynced_writes_are_lost_kept_torn_and_reordered() {
    let (disk, file) = disk_with(&[0; 4 * SECTOR]);
    file.write_at(0, &[1; 2 * SECTOR]).unwrap();
    file.write_at(2 * SECTOR as u64, &[2; 2 * SECTOR]).unwrap();
    let found: BTreeSet<Vec<u8>> = survivors(&disk)
        .into_iter()
        .map(|bytes| bytes.chunks(SECTOR).map(|sector| sector[0]).collect())
        .collect();
    assert!(found.contains(&vec![0, 0, 0, 0]), "both lost");
    assert!(found.contains(&vec![1, 1, 2, 2]), "both kept");
    assert!(found.contains(&vec![1, 0, 0, 0]), "the first torn");
    assert!(found.contains(&vec![0, 0, 2, 2]), "the second before the first");
}

#[test]
fn a_sector_is_as_it_was_after_one_of_its_writes() {
    let (disk, file) = disk_with(b"....");
    file.write_at(1, b"a").unwrap();
    file.write_at(2, b"b").unwrap();
    let found = survivors(&disk);
    let expected = [&b"...."[..], b".a..", b".ab."].map(<[u8]>::to_vec);
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn a_length_without_its_data_shows_zeros_noise_or_older_bytes() {
    let (disk, file) = disk_with(b"");
    let other = disk.create(Path::new("/log/other"), 0).unwrap();
    other.write_at(0, &[9; SECTOR]).unwrap();
    file.write_at(0, &[1; SECTOR]).unwrap();
    let found = survivors(&disk);
    assert!(found.contains(&vec![]), "lost");
    assert!(found.contains(&vec![1; SECTOR]), "kept");
    assert!(found.contains(&vec![0; SECTOR]), "zeros");
    assert!(found.contains(&vec![9; SECTOR]), "stale");
    assert!(found.len() > 4, "noise");
}

#[test]
fn cutting_a_file_can_be_lost_while_a_later_write_is_not() {
    let (disk, file) = disk_with(&[1; 3 * SECTOR]);
    file.set_size(SECTOR as u64).unwrap();
    file.write_at(SECTOR as u64, &[2; SECTOR]).unwrap();
    let resurrected = [[1; SECTOR], [2; SECTOR], [1; SECTOR]].concat();
    assert!(survivors(&disk).contains(&resurrected));
    file.sync().unwrap();
    let expected = [[1; SECTOR], [2; SECTOR]].concat();
    assert_eq!(survivors(&disk), BTreeSet::from([expected]));
}

#[test]
fn names_are_lost_kept_and_undone_until_the_folder_is_synced() {
    let (disk, _) = disk_with(b"old");
    let new = disk.create(Path::new("/log/new"), 0).unwrap();
    new.write_at(0, b"new").unwrap();
    new.sync().unwrap();
    disk.rename(Path::new("/log/new"), path()).unwrap();
    let names = |seed| {
        let disk = disk.power_loss(seed);
        let mut names = disk.list(folder()).unwrap();
        names.sort();
        (names, content(&disk))
    };
    let found: BTreeSet<_> = (0..SEEDS).map(names).collect();
    let file = || vec!["file".to_owned()];
    let both = vec!["file".to_owned(), "new".to_owned()];
    let expected = [(file(), b"old".to_vec()), (both, b"old".to_vec()), (file(), b"new".to_vec())];
    assert_eq!(found, BTreeSet::from(expected));
    disk.sync_dir(folder()).unwrap();
    assert!((0..SEEDS).all(|seed| names(seed) == (file(), b"new".to_vec())));
}

#[test]
fn a_removed_file_comes_back_and_a_folder_takes_its_files_along() {
    let (disk, _) = disk_with(b"old");
    disk.remove(path()).unwrap();
    assert_eq!(disk.open(path(), 0).unwrap_err().kind(), ErrorKind::NotFound);
    let back = (0..SEEDS).filter(|seed| disk.power_loss(*seed).open(path(), 0).is_ok());
    assert!((1..SEEDS as usize).contains(&back.count()));

    let inner = Path::new("/log/inner/file");
    disk.create_dir(Path::new("/log/inner")).unwrap();
    disk.create(inner, 0).unwrap();
    disk.sync_dir(Path::new("/log/inner")).unwrap();
    let there = (0..SEEDS).filter(|seed| disk.power_loss(*seed).open(inner, 0).is_ok());
    assert!((1..SEEDS as usize).contains(&there.count()));
}

#[test]
fn a_killed_process_leaves_what_it_wrote_and_no_lock() {
    let (disk, file) = disk_with(b"first");
    let lock = disk.lock(folder(), "process 1").unwrap();
    let Err(LockError::Held { owner }) = disk.lock(folder(), "process 2") else {
        panic!("locked twice")
    };
    assert_eq!(owner, "process 1");
    file.write_at(5, b" and second").unwrap();

    let killed = disk.process_kill();
    assert_eq!(content(&killed), b"first and second");
    killed.lock(folder(), "process 2").unwrap();
    assert!(survivors(&killed).contains(&b"first"[..]), "the second write is still not durable");
    file.write_at(0, b"F").unwrap();
    assert_eq!(content(&killed)[0], b'f', "a write of the killed process does not reach the copy");

    drop(lock);
    disk.lock(folder(), "process 3").unwrap();
}

#[test]
fn a_later_sync_does_not_repair_a_failed_sync() {
    let (disk, file) = disk_with(&[0; 2 * SECTOR]);
    file.write_at(0, &[1; 2 * SECTOR]).unwrap();
    let mut found = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk.process_kill();
        disk.0.lock().random = super::Random::new(seed);
        let file = disk.open(path(), 0).unwrap();
        disk.fail_after(0, Fault::Io(Operation::Sync));
        file.sync().unwrap_err();
        assert_eq!(content(&disk), [1; 2 * SECTOR], "readers still see it");
        file.sync().unwrap();
        found.insert(content(&disk.power_loss(seed)));
    }
    let all = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[a, b]| [[a; SECTOR], [b; SECTOR]].concat());
    assert_eq!(found, BTreeSet::from(all));
}

#[test]
fn every_operation_can_be_made_to_fail_once() {
    for kind in Operation::ALL {
        let (disk, file) = disk_with(b"bytes");
        disk.fail_after(0, Fault::Io(kind));
        let results = |disk: &SimulatedDisk| {
            let second = Path::new("/log/second");
            [
                disk.create_dir(folder()).is_ok(),
                disk.list(folder()).is_ok(),
                disk.create(second, 0).is_ok(),
                disk.open(path(), 0).is_ok(),
                disk.map(path()).is_ok(),
                disk.rename(path(), second).is_ok() && disk.rename(second, path()).is_ok(),
                disk.link(path(), Path::new("/log/third")).is_ok(),
                disk.remove(second).is_ok() || kind != Operation::Remove,
                disk.sync_dir(folder()).is_ok(),
                disk.pin(folder()).is_ok(),
                disk.lock(folder(), "").is_ok(),
                file.size().is_ok(),
                file.read_at(0, 1).is_ok(),
                file.write_at(9, b"x").is_ok(),
                file.set_size(20).is_ok(),
                file.sync().is_ok(),
                file.share(0, 5).is_ok(),
            ]
        };
        let failed = results(&disk).iter().filter(|ok| !**ok).count();
        assert_eq!((failed, disk.failures().len()), (1, 1), "{kind:?}");
        assert!(disk.count(kind) > 0);
    }
}

#[test]
fn a_full_disk_takes_a_first_part_of_a_write() {
    let (disk, file) = disk_with(b"1234");
    disk.set_capacity(10);
    let error = file.write_at(4, b"567890abc").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(content(&disk), b"1234567890");
    assert_eq!(disk.used_bytes(), 10);
    file.set_size(11).unwrap_err();

    let (disk, file) = disk_with(b"1234");
    disk.fail_after(1, Fault::DiskFull);
    file.size().unwrap();
    let error = file.write_at(4, b"5678").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(b"12345678".starts_with(&content(&disk)));
    file.write_at(4, b"5678").unwrap();
}

#[test]
fn a_disk_that_stays_full_takes_what_needs_no_space() {
    let (disk, file) = disk_with(b"1234");
    disk.fail_after(1, Fault::DiskStaysFull);
    disk.create(Path::new("/log/first"), 0).unwrap();
    for _ in 0..2 {
        assert_eq!(file.write_at(2, b"cdef").unwrap_err().kind(), ErrorKind::StorageFull);
        file.write_at(0, b"ab").unwrap();
        disk.create(Path::new("/log/second"), 0).unwrap_err();
    }
    assert_eq!(file.read_at(0, 9).unwrap(), b"abcd");
    disk.disarm();
    file.write_at(2, b"cdef").unwrap();
    assert_eq!(content(&disk), b"abcdef");
    disk.create(Path::new("/log/second"), 0).unwrap();
}

#[test]
fn a_stopped_machine_does_nothing_more() {
    let (disk, file) = disk_with(b"1234");
    disk.fail_after(1, Fault::Stop);
    file.size().unwrap();
    file.write_at(4, b"5678").unwrap_err();
    let torn = disk.process_kill().map(path()).unwrap();
    file.write_at(0, b"abcd").unwrap_err();
    file.sync().unwrap_err();
    disk.create(Path::new("/log/second"), 0).unwrap_err();
    let after = disk.process_kill().map(path()).unwrap();
    assert_eq!(after, torn);
    assert!(b"12345678".starts_with(&torn));
}

#[test]
fn each_sabotage_has_its_effect() {
    let lying = |lie| {
        let (disk, file) = disk_with(b"old");
        disk.set_sabotage(lie);
        (disk, file)
    };
    let (disk, file) = lying(Sabotage::AcknowledgeBeforeSync);
    file.write_at(0, b"new").unwrap();
    file.sync().unwrap();
    assert!(survivors(&disk).contains(&b"old"[..]));

    let (disk, file) = lying(Sabotage::ForgetFailedSync);
    let lost = |seed| {
        let disk = disk.process_kill();
        disk.0.lock().random = super::Random::new(seed);
        let file = disk.open(path(), 0).unwrap();
        file.write_at(0, b"new").unwrap();
        disk.fail_after(0, Fault::Io(Operation::Sync));
        file.sync().unwrap();
        content(&disk.power_loss(seed)) == b"old"
    };
    assert!((0..SEEDS).any(lost));
    drop(file);

    let (disk, _) = lying(Sabotage::ForgetDirSync);
    disk.create(Path::new("/log/second"), 0).unwrap();
    disk.sync_dir(folder()).unwrap();
    let names = (0..SEEDS).map(|seed| disk.power_loss(seed).list(folder()).unwrap().len());
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
}

#[test]
#[should_panic(expected = "are shared")]
fn shared_bytes_must_not_change() {
    let (_disk, file) = disk_with(b"12345678");
    let _shared = file.share(2, 4).unwrap();
    file.write_at(4, b"y").unwrap();
    file.write_at(3, b"4").unwrap();
    file.write_at(3, b"x").unwrap();
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let (disk, file) = disk_with(&[3; 700]);
        file.write_at(600, &[4; 5000]).unwrap();
        disk.create(Path::new("/log/second"), 0).unwrap();
        let disk = disk.power_loss(seed);
        let file = disk.open(path(), 0).unwrap();
        file.write_at(100, &[5; 3000]).unwrap();
        disk.fail_after(0, Fault::Io(Operation::Sync));
        file.sync().unwrap_err();
        disk.power_loss(seed + 1).contents()
    };
    assert!((0..50).all(|seed| run(seed) == run(seed)));
    assert!((0..50).any(|seed| run(seed) != run(seed + 1)));
}
