//! `diptych serve` under load, on a disk that gets full, and with certificates that change.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use diptych_remote::{RemoteOptions, RemoteStore};
use diptych_store::{
    Append, AppendError, Digest, EventStore, Filter, Key, Position, RawEvent, Read, Unavailable,
};
use pollster::block_on;

use crate::{
    authority::{issue, swap},
    mounts::{NOT_MOUNTED, left_out, mounted},
    program::Program,
    served::{LONG, ServeProcess},
};

const SMALL: &str = "DIPTYCH_SERVED_FROM_A_SMALL_DISK";
const CLIENTS: u64 = 3;
/// The time that a client waits for an outcome.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Waits until it is so.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "it did not come to this: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs in this process again, which has mounted a small file system for its temporary files.
#[test]
fn a_full_disk_under_load_refuses_appends_and_answers_reads_until_there_is_space() {
    if env::var_os(SMALL).is_some() {
        return serve_from_a_small_disk();
    }
    let folder = tempfile::tempdir().unwrap();
    let name = concat!(
        "serve_faults::",
        "a_full_disk_under_load_refuses_appends_and_answers_reads_until_there_is_space"
    );
    let mount = "mount -t tmpfs -o size=96m small \"$1\"";
    let mut small = mounted(mount, "exec \"$2\" --exact \"$3\"");
    small.arg(folder.path()).arg(env::current_exe().unwrap()).arg(name);
    let output = match small.env(SMALL, "1").env("TMPDIR", folder.path()).output() {
        Ok(output) => output,
        Err(error) => return left_out(&format!("without `unshare`: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => assert!(said.contains("1 passed"), "{said}"),
        Some(1 | NOT_MOUNTED) => left_out(&format!("because nothing can be mounted: {errors}")),
        _ => panic!("{said}\n{errors}"),
    }
}

/// The appends of the clients.
#[derive(Default)]
struct Witness {
    is_over: AtomicBool,
    numbers: AtomicU64,
    acknowledged: Mutex<BTreeMap<u64, Position>>,
    unknown: Mutex<BTreeSet<u64>>,
    refused: AtomicU64,
}

impl Witness {
    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Appends one event after another. An error has to be about space.
    fn append(&self, store: &RemoteStore) {
        while !self.is_over.load(Ordering::SeqCst) {
            let number = self.numbers.fetch_add(1, Ordering::SeqCst);
            let event = RawEvent::new(number.to_string(), vec![7; 4_000]);
            let append = Append::event(event).key(Key::new(number.to_string(), Digest([1; 16])));
            let committed = block_on(async {
                Ok::<_, AppendError>(store.append(append).await?.synced().await?)
            });
            match committed {
                Ok(commit) => drop(self.acknowledged.lock().unwrap().insert(number, commit.first)),
                Err(error) => self.note(number, &error),
            }
        }
    }

    fn note(&self, number: u64, error: &AppendError) {
        match error {
            // The log keeps it until there is space. That may take longer than this client waits.
            AppendError::OutcomeUnknown(_) => {
                self.unknown.lock().unwrap().insert(number);
            }
            AppendError::Unavailable(Unavailable::Storage { what, cause, advice }) => {
                assert_eq!(cause.kind(), ErrorKind::StorageFull, "append {number}: {error}");
                assert!(what.starts_with("the server of the log cannot "), "{what}");
                // The file has a name, and the folders of the server stay unknown.
                assert!(what.contains(".seg") && !what.contains('/'), "{what}");
                assert!(advice.contains("free space on the file system of the server"), "{advice}");
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
            other => panic!("append {number}: {other}"),
        }
        thread::sleep(Duration::from_millis(2));
    }

    /// The numbers in the log by position. No number is there twice.
    fn in_log(&self, store: &RemoteStore) -> BTreeMap<Position, u64> {
        let head = block_on(store.fresh_head()).unwrap();
        let (mut after, mut found) = (Position::START, BTreeMap::new());
        while after < head {
            let batch = block_on(store.read(&Filter::everything(), Read::after(after).upto(head)));
            let batch = batch.unwrap();
            let number = |name: &str| name.parse::<u64>().unwrap();
            found.extend(batch.iter().map(|event| (event.position(), number(event.event_type()))));
            after = batch.upto();
        }
        let numbers: BTreeSet<u64> = found.values().copied().collect();
        assert_eq!(numbers.len(), found.len(), "an event is there twice");
        for (number, position) in &*self.acknowledged.lock().unwrap() {
            assert_eq!(found.get(position), Some(number), "an acknowledged event is lost");
        }
        found
    }
}

fn connect(server: &ServeProcess, authorities: Option<PathBuf>) -> Result<RemoteStore, String> {
    let mut options = RemoteOptions::default();
    options.authorities = authorities;
    options.answer_time = ANSWER_TIME;
    block_on(RemoteStore::connect(&server.url, options)).map_err(|error| error.to_string())
}

/// Takes all space that is left.
fn fill(path: &Path) {
    let mut ballast = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for bytes in [64 << 10, 4 << 10, 512] {
        while ballast.write_all(&vec![1; bytes]).is_ok() {}
    }
}

fn serve_from_a_small_disk() {
    let program = Program::new();
    let server = ServeProcess::start(&program);
    let witness = Arc::new(Witness::default());
    let clients: Vec<JoinHandle<()>> = (0..CLIENTS)
        .map(|_| {
            let (witness, store) = (witness.clone(), connect(&server, None).unwrap());
            thread::spawn(move || witness.append(&store))
        })
        .collect();
    let reader = connect(&server, None).unwrap();
    let ballast = program.dir.path().join("ballast");
    for _ in 0..2 {
        let before = witness.acknowledged();
        wait_until("appends under way", || witness.acknowledged() >= before + 50);
        let refused = witness.refused.load(Ordering::SeqCst);
        wait_until("each client is refused some appends", || {
            fill(&ballast);
            witness.refused.load(Ordering::SeqCst) >= refused + 10 * CLIENTS
        });
        assert!(witness.in_log(&reader).len() >= witness.acknowledged() - CLIENTS as usize);
        wait_until("the server says that commits are paused", || {
            fill(&ballast);
            server.get("/ready")
                == (200, "{\"status\":\"ready\",\"commits\":\"paused\"}".to_owned())
        });
        assert_eq!(server.get("/v1/logs/log/events?limit=3").0, 200);
        fs::remove_file(&ballast).unwrap();
        let before = witness.acknowledged();
        wait_until("appends go on", || witness.acknowledged() >= before + 50);
        assert_eq!(server.get("/ready"), (200, "{\"status\":\"ready\"}".to_owned()));
    }
    witness.is_over.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let found = witness.in_log(&reader);
    let known: BTreeSet<u64> = witness.acknowledged.lock().unwrap().keys().copied().collect();
    let unknown = witness.unknown.lock().unwrap();
    assert!(
        found.values().all(|number| known.contains(number) || unknown.contains(number)),
        "a refused event is in the log"
    );
    let (code, said) = server.end();
    assert_eq!(code, 0, "{said}");
    program.run(&["verify"], "").ended(0, "");
}

#[test]
fn a_certificate_is_swapped_under_load_and_no_request_fails() {
    let program = Program::new();
    let folder = program.dir.path();
    let path = |name: &str| folder.join(name);
    let old = issue(folder, "old");
    swap(folder);
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let server = ServeProcess::start_with(
        &program,
        &[
            "--listen=127.0.0.1:0",
            "--certificate",
            certificate.to_str().unwrap(),
            "--private-key",
            key.to_str().unwrap(),
        ],
    );
    assert!(server.url.starts_with("diptychs://"), "{}", server.url);
    let new = issue(folder, "new");
    fs::write(path("both.pem"), old + &new).unwrap();
    let lasting = connect(&server, Some(path("both.pem"))).unwrap();
    assert!(connect(&server, Some(path("new.pem"))).is_err(), "the new one is not there yet");
    let (is_over, appended) = (AtomicBool::new(false), AtomicU64::new(0));
    let append = |store: &RemoteStore| {
        block_on(async {
            let append = Append::event(RawEvent::new("t", "1"));
            store.append(append).await.unwrap().synced().await.unwrap();
        });
        appended.fetch_add(1, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        let load: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        // Each on a connection of its own, and on one that lasts.
                        append(&connect(&server, Some(path("both.pem"))).unwrap());
                        append(&lasting);
                    }
                })
            })
            .collect();
        let go_on = |what| {
            let before = appended.load(Ordering::SeqCst);
            wait_until(what, || {
                appended.load(Ordering::SeqCst) >= before + 6
                    || load.iter().any(|one| one.is_finished())
            });
        };
        go_on("appends before the swap");
        swap(folder);
        wait_until("the new certificate is seen", || {
            connect(&server, Some(path("new.pem"))).is_ok()
                || load.iter().any(|one| one.is_finished())
        });
        go_on("appends after the swap");
        is_over.store(true, Ordering::SeqCst);
    });
    let refused = connect(&server, Some(path("old.pem"))).map(drop).unwrap_err();
    assert!(refused.contains("not trusted"), "{refused}");
    let head = block_on(lasting.fresh_head()).unwrap();
    assert_eq!(head.get(), appended.load(Ordering::SeqCst));
    server.messages().wait_for("the new certificate is in use");
}
