//! `diptych copy --move` with a log in PostgreSQL at one end, or at both.

use std::sync::atomic::{AtomicBool, Ordering};

use diptych_postgres::{Arrival as DatabaseArrival, PostgresOptions, PostgresStore};
use diptych_postgres_testing::{PostgresServer, new_name, runtime, shared};
use diptych_store::{Append, AppendError, RawEvent, Store};

use super::*;
use crate::program::finish;

/// A log in a folder or in a database, which may not be there yet.
enum Place {
    Folder(Program),
    Database(String),
}

impl Place {
    fn folder() -> Place {
        Place::Folder(Program::new())
    }

    fn database(server: &PostgresServer) -> Place {
        Place::Database(server.address("postgres", &new_name()))
    }

    /// Pairs of places for each direction.
    fn pairs(server: &PostgresServer) -> [(Place, Place); 3] {
        [
            (Place::folder(), Place::database(server)),
            (Place::database(server), Place::folder()),
            (Place::database(server), Place::database(server)),
        ]
    }

    fn address(&self) -> String {
        match self {
            Place::Folder(program) => program.data().display().to_string(),
            Place::Database(address) => address.clone(),
        }
    }

    /// The address as the other end shows it.
    fn shown(&self) -> String {
        match self {
            Place::Folder(program) => {
                let dir = program.dir.path().canonicalize().unwrap();
                dir.join("data").display().to_string()
            }
            Place::Database(address) => address.replace("postgres@", ""),
        }
    }

    fn run(&self, args: &[&str], input: impl AsRef<[u8]>) -> Ran {
        let (command, options) = args.split_first().unwrap();
        let address = self.address();
        let wait_seconds = match self {
            Place::Folder(_) => "0",
            // A busy machine has slow databases.
            Place::Database(_) => "30",
        };
        let place = [*command, "--wait-seconds", wait_seconds, "--data", &address];
        finish(spawn(&[&place, options].concat()), input)
    }

    fn load(&self, input: impl AsRef<[u8]>) {
        self.run(&["append"], input).ended(0, "");
    }

    fn read(&self) -> String {
        let ran = self.run(&["read"], "");
        ran.ended(0, "");
        ran.stdout
    }

    /// Whether the log is there and takes a commit.
    fn takes_commits(&self) -> bool {
        let exists = match self {
            // A folder without a log takes a commit as a log of its own, and so does a database.
            Place::Folder(program) => program.data().join("manifest").exists(),
            Place::Database(_) => self.run(&["read"], "").code == 0,
        };
        exists && self.run(&["append"], events("probe", 1)).code == 0
    }

    fn source(self) -> Place {
        self.load(events("a", 2_500));
        self.run(&["append", "--key", "k"], events("b", 3)).ended(0, "");
        self
    }
}

fn move_place(from: &Place, to: &Place) -> Ran {
    let (from, to) = (from.address(), to.address());
    run(&["copy", "--move", "--wait-seconds", "5", "--json", &from, &to])
}

/// Asserts that `from` refuses appends with the place of `to`, which has everything.
fn has_moved_to(from: &Place, to: &Place) {
    let refused = from.run(&["append"], events("late", 1));
    let said = format!("moved to {} and takes commits there", to.shown());
    assert!(refused.code != 0 && refused.stderr.contains(&said), "{}", refused.stderr);
    let read = from.read();
    assert_eq!(to.read(), read);
    to.load(events("new", 2));
    assert_eq!(from.read(), read);
}

#[test]
fn a_log_moves_between_folders_and_databases_with_its_identity_and_keys() {
    let Some(server) = shared() else { return };
    for (from, to) in Place::pairs(server) {
        let from = from.source();
        let moved = report(&move_place(&from, &to));
        assert_eq!((&moved["upto"], &moved["events"]), (&json!(2_503), &json!(2_503)));
        let again = to.run(&["append", "--key", "k"], events("b", 3));
        assert_eq!(again.lines()[0]["repeated"], json!(true));
        has_moved_to(&from, &to);
        let before = move_place(&from, &to);
        before.ended(0, "");
        assert_eq!(before.lines()[0]["moved_before"], json!(true));
        assert_eq!(before.lines()[0]["log"], moved["log"]);
        for elsewhere in [Place::folder(), Place::database(server)] {
            move_place(&from, &elsewhere).ended(1, "takes commits there");
            assert!(!elsewhere.takes_commits());
        }
    }
}

#[test]
fn a_log_that_moved_into_a_database_moves_on_and_takes_no_place_twice() {
    let Some(server) = shared() else { return };
    let (first, second) = (Place::folder().source(), Place::database(server));
    let (third, fourth) = (Place::database(server), Place::folder());
    let moved = report(&move_place(&first, &second));
    second.load(events("c", 1));
    report(&move_place(&second, &third));
    let last = report(&move_place(&third, &fourth));
    assert_eq!((&last["log"], &last["epoch"]), (&moved["log"], &moved["epoch"]));
    assert_eq!(last["upto"], json!(2_504));
    move_place(&fourth, &second).ended(1, "moved away from here");
    move_place(&fourth, &first).ended(1, "takes commits there");
    fourth.load(events("d", 1));
}

#[test]
fn a_move_that_ended_after_any_of_its_steps_is_finished_by_the_same_command() {
    let Some(server) = shared() else { return };
    for steps in 1..=3 {
        for (from, to) in Place::pairs(server) {
            let from = from.source();
            begin(&from, &to);
            if steps > 1 {
                // The source may still be appended to, and the target not.
                from.load(events("between", 1));
            }
            if steps > 2 {
                fence_place(&from, &to);
                assert!(!from.takes_commits());
            }
            let early = to.run(&["append"], events("early", 1));
            assert!(early.code != 0, "the target took a commit");
            assert!(early.stderr.contains("repeat `diptych copy --move"), "{}", early.stderr);
            assert_eq!(to.read(), "");
            report(&move_place(&from, &to));
            has_moved_to(&from, &to);
        }
    }
}

fn identity(place: &Place) -> diptych_store::LogIdentity {
    match place {
        Place::Folder(program) => {
            ReadOnlyLog::open(program.data(), LogOptions::default()).unwrap().identity()
        }
        Place::Database(address) => open(address).identity(),
    }
}

fn open(address: &str) -> PostgresStore {
    block_on(PostgresStore::open(address, PostgresOptions::default())).unwrap()
}

/// The first step of a move.
fn begin(from: &Place, to: &Place) {
    let (identity, from) = (identity(from), from.shown());
    match to {
        Place::Folder(_) => {
            drop(Arrival::begin(to.shown(), identity, from, &LogOptions::default()).unwrap());
        }
        Place::Database(address) => {
            let options = PostgresOptions::default();
            drop(block_on(DatabaseArrival::begin(address, identity, &from, options)).unwrap());
        }
    }
}

fn fence_place(from: &Place, to: &Place) {
    let identity = identity(from);
    match from {
        Place::Folder(_) => {
            fence(from.shown(), identity, to.shown(), &LogOptions::default()).unwrap();
        }
        Place::Database(address) => {
            block_on(open(address).fence(identity, &to.shown())).unwrap();
        }
    }
}

#[test]
fn a_move_that_is_killed_leaves_at_most_one_place_that_takes_commits() {
    let Some(server) = shared() else { return };
    for (from, to) in Place::pairs(server) {
        from.run(&["append", "--batch", "3"], events("t", 3_000)).ended(0, "");
        for pause_ms in [20, 60, 120, 250] {
            let (here, there) = (from.address(), to.address());
            let mut moving = spawn(&["copy", "--move", "--wait-seconds", "60", &here, &there]);
            // Wherever it is then, the next one goes on.
            thread::sleep(Duration::from_millis(pause_ms));
            moving.kill().unwrap();
            moving.wait().unwrap();
            assert!(!(from.takes_commits() && to.takes_commits()), "both places take commits");
        }
        move_place(&from, &to).ended(0, "");
        assert!(!from.takes_commits());
        assert!(to.read().starts_with(&from.read()));
        to.load(events("new", 2));
    }
}

#[test]
fn programs_that_have_the_log_open_are_refused_from_the_fence_on_and_lose_nothing() {
    let Some(server) = PostgresServer::start() else { return };
    for to in [Place::folder(), Place::database(&server)] {
        let (from, place) = (Place::database(&server), to.shown());
        let stores = [(); 2].map(|()| Store::new(open(&from.address())));
        let is_moved = AtomicBool::new(false);
        let acknowledged: Vec<_> = thread::scope(|scope| {
            let (stores, is_moved, place) = (&stores, &is_moved, &place);
            let writers = [0, 1, 2, 3].map(|writer| {
                scope.spawn(move || {
                    let mut known = Vec::new();
                    for number in 0.. {
                        let payload = format!("{writer}-{number}");
                        let was_moved = is_moved.load(Ordering::SeqCst);
                        match append(&stores[writer % 2], &payload) {
                            Ok(last) => known.push((last, payload)),
                            Err(error) => {
                                assert_refused(error, place);
                                return known;
                            }
                        }
                        assert!(!was_moved, "it took a commit after the move");
                    }
                    known
                })
            });
            report(&move_place(&from, &to));
            is_moved.store(true, Ordering::SeqCst);
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        let moved = to.run(&["read"], "").lines();
        assert_eq!(moved.len(), acknowledged.len());
        for (position, payload) in &acknowledged {
            assert_eq!(moved[*position as usize - 1]["data"], json!(payload));
        }
        // The same handle reads on, and is refused again after it has connected again.
        server.execute(
            "postgres",
            "select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = 'diptych'",
        );
        assert_refused(append(&stores[0], "late").unwrap_err(), &place);
        assert_eq!(block_on(stores[0].fresh_head()).unwrap().get(), moved.len() as u64);
        let fresh = Store::new(open(&from.address()));
        assert_refused(append(&fresh, "late").unwrap_err(), &place);
        assert_eq!(from.read(), to.read());
    }
}

fn append(store: &Store, payload: &str) -> Result<u64, AppendError> {
    let event = RawEvent::new("noted", format!("{payload:?}"));
    let append = Append::event(event);
    block_on(async { Ok(store.append(append).await?.synced().await?.last.get()) })
}

fn assert_refused(error: AppendError, to: &str) {
    let said = format!("the log moved to {to} and takes commits there (DP005); use it there");
    assert!(matches!(error, AppendError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains(&said), "{said:?} is not in: {error}");
}

#[test]
fn a_target_with_another_log_is_refused_and_one_that_is_not_whole_can_be_removed() {
    let Some(server) = shared() else { return };
    let (from, other) = (Place::folder().source(), Place::database(server));
    other.load(events("other", 1));
    let refused = move_place(&from, &other);
    refused.ended(1, "take a name that no log of the database has");
    assert_eq!(other.run(&["read"], "").positions(), [1]);
    // A copy has an identity of its own.
    let copy = Place::database(server);
    run(&["copy", &from.address(), &copy.address()]).ended(0, "");
    move_place(&from, &copy).ended(1, "take a name that no log of the database has");
    move_place(&copy, &copy).ended(1, "give another place");
    let spelled = Place::Database(copy.address().replace("127.0.0.1", "localhost"));
    move_place(&copy, &spelled).ended(1, "if both addresses lead to one log");
    assert!(from.takes_commits() && copy.takes_commits());

    let to = Place::database(server);
    begin(&from, &to);
    let name = to.address().split_once("log=").unwrap().1.to_owned();
    let check = run(&["postgres", "check", &to.address()]);
    assert!(check.stdout.contains("takes no commits until all of it is here"), "{}", check.stdout);
    move_place(&to, &Place::folder()).ended(1, "finish that move first");
    server.execute("postgres", &format!("select diptych.end_arrival('{name}')"));
    to.run(&["read"], "").ended(5, "has no log");
    report(&move_place(&from, &to));
    // It removes no log that is whole.
    server.execute("postgres", &format!("select diptych.end_arrival('{name}')"));
    has_moved_to(&from, &to);
}

#[test]
fn a_log_moves_neither_from_nor_to_a_replica() {
    let Some(server) = shared() else { return };
    let name = new_name();
    server.execute("postgres", "create database frozen");
    let primary = Place::Database(server.address("frozen", &name));
    primary.load(events("a", 3));
    // From now on it looks like a replica.
    server.execute("postgres", "alter database frozen set default_transaction_read_only = on");
    let replica = server.address("frozen", &name) + "&target_session_attrs=read-only";
    let replica = Place::Database(replica);
    assert_eq!(replica.run(&["read"], "").positions(), [1, 2, 3]);
    move_place(&replica, &Place::folder()).ended(1, "give the address of the primary");
    move_place(&Place::folder().source(), &replica).ended(1, "give the address of the primary");
    server.execute("postgres", "alter database frozen set default_transaction_read_only = off");
    assert!(primary.takes_commits());
}

#[test]
fn receipts_and_sessions_of_before_a_move_are_good_in_a_database_and_back_in_a_folder() {
    let Some(server) = shared() else { return };
    let (first, second, third) = (Place::folder(), Place::database(server), Place::folder());
    runtime().block_on(async {
        let start = async |place: &Place| {
            let app = App::connect(&place.address()).await.unwrap().view::<Total>();
            app.start().await.unwrap()
        };
        let app = start(&first).await;
        let session = app.session();
        let receipt = app.execute(Count(3)).await.unwrap();
        app.query(Sum).after(&receipt).session(&session).await.unwrap();
        let token = session.token().await.unwrap();
        app.stop().await.unwrap();
        let mut sum = 3;
        for (from, to) in [(&first, &second), (&second, &third)] {
            report(&move_place(from, to));
            let app = start(to).await;
            assert_eq!(*app.query(Sum).after(&receipt).await.unwrap(), sum);
            let resumed = app.resume_session(&token).await.unwrap();
            assert_eq!(*app.query(Sum).session(&resumed).await.unwrap(), sum);
            app.execute(Count(4)).await.unwrap();
            sum += 4;
            assert_eq!(*app.query(Sum).strong().await.unwrap(), sum);
            app.stop().await.unwrap();
        }
    });
}
