//! Posters: processes that hold only views of a log, and forward commands to its owner.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::Request;
use diptych::{
    App, Log, LogOptions, Memory, Receipt, Store,
    follow::FollowState,
    poster::{Poster, PosterOptions},
    query::ViewDigest,
};
use diptych_log::SealedSegments;
use diptych_server::{Caller, LogServer, Owner, Server, TokenScope};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinHandle,
};

use crate::{
    child::{ServerProcess, free_address},
    door_server::{Answer, DoorServer, LONG, Tokens, ask_over, in_time, options},
    poster_process::{PosterProcess, Wall, Words, WriteWord, catalogue},
    proxy::{Mode, Proxy},
    served_log::ServedLog,
};

/// A running server of HTTP. It ends when this value is dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    pub(crate) async fn start(server: Server) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Site::on(listener, server)
    }

    fn on(listener: TcpListener, server: Server) -> Site {
        let address = listener.local_addr().unwrap();
        let serving = async { server.serve(listener, std::future::pending()).await.unwrap() };
        Site { address, task: tokio::spawn(serving) }
    }

    async fn get(&self, target: &str) -> Answer {
        get(self.address, target).await
    }

    pub(crate) async fn write(&self, word: &str) -> Answer {
        post(self.address, "write-word", word, &[]).await
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner::at(&format!("http://{}", self.address)).unwrap()
    }
}

async fn ask(address: SocketAddr, request: Request<String>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    ask_over(hyper_util::rt::TokioIo::new(stream), request).await
}

async fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, Request::get(target).body(String::new()).unwrap()).await
}

async fn post(address: SocketAddr, name: &str, word: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::post(format!("/commands/{name}"));
    request = request.header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(address, request.body(json!({ "word": word }).to_string()).unwrap()).await
}

/// The application that owns the log.
pub(crate) async fn owning_app(store: Store) -> App {
    App::over_store(store).catalogue(catalogue()).start().await.unwrap()
}

async fn write(app: &App, word: &str) -> Receipt {
    app.execute(WriteWord { word: word.to_owned() }).await.unwrap()
}

fn quick() -> PosterOptions {
    let mut options = PosterOptions::default();
    options.ask_interval = Duration::from_millis(50);
    options.quiet_time = Duration::from_secs(1);
    options.remote.heartbeat = Duration::from_millis(400);
    options
}

pub(crate) async fn poster_of(source: impl std::fmt::Display) -> Poster {
    let poster = Poster::follow(source.to_string()).catalogue(catalogue()).options(quick());
    in_time(poster.open()).await.unwrap()
}

async fn digest(poster: &Poster, receipt: &Receipt) -> String {
    let digest = poster.query(ViewDigest::<Wall>::new()).after(receipt).within(LONG).await;
    digest.unwrap().value.unwrap().to_string()
}

/// Asks until the answer is this one.
async fn until(address: SocketAddr, target: &str, is_it: impl Fn(&Answer) -> bool) -> Answer {
    in_time(async {
        loop {
            let answer = get(address, target).await;
            if is_it(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_posters_converge_to_the_digest_of_the_source() {
    let store = Store::new(Memory::new());
    let app = owning_app(store.clone()).await;
    let served = ServedLog::start(store);
    let owner = Site::start(Server::new(app.clone())).await;
    let source = format!("diptych://{}", served.address);
    let (mut posters, mut processes) = (Vec::new(), Vec::new());
    for number in 0..10 {
        // Each starts at another place of the log. Some are processes of their own.
        write(&app, &format!("word {number}")).await;
        match number % 3 {
            1 => {
                let address = free_address();
                let process = PosterProcess::start(&source, owner.address, address);
                processes.push((process, address));
            }
            _ => posters.push(poster_of(&source).await),
        }
    }
    assert_eq!((posters.len(), processes.len()), (7, 3));
    let last = write(&app, "the last").await;
    let own = app.query(ViewDigest::<Wall>::new()).after(&last).await.unwrap();
    let own = own.value.unwrap().to_string();
    for poster in &posters {
        assert_eq!(digest(poster, &last).await, own);
    }
    let target = format!("/queries/wall-digest?_after={last}&_within=15000");
    for (_, address) in &processes {
        assert_eq!(get(*address, &target).await.ok(), own);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poster_that_was_killed_catches_up_to_the_digest_of_the_source() {
    let store = Store::new(Memory::new());
    let app = owning_app(store.clone()).await;
    let served = ServedLog::start(store);
    let owner = Site::start(Server::new(app.clone())).await;
    let (source, address) = (format!("diptych://{}", served.address), free_address());
    let mut process = PosterProcess::start(&source, owner.address, address);
    for number in 0..20 {
        let answer = post(address, "write-word", &format!("word {number}"), &[]).await;
        assert_eq!(answer.ok()["events"], 1);
        if number % 7 == 3 {
            process.kill();
            write(&app, "while it is away").await;
            process = PosterProcess::start(&source, owner.address, address);
        }
    }
    let last = write(&app, "the last").await;
    let own = app.query(ViewDigest::<Wall>::new()).after(&last).await.unwrap();
    let target = format!("/queries/wall-digest?_after={last}&_within=15000");
    let answer = get(address, &target).await;
    assert_eq!(answer.ok(), own.value.unwrap().to_string());
}

/// EP-A2 of the pattern: no poster shows its own command before its event arrives.
#[test]
fn a_poster_shows_its_own_command_only_when_the_event_arrives() {
    let store = Store::new(Memory::new());
    let served = ServedLog::start(store.clone());
    // It has a runtime of its own.
    let proxy = Proxy::start(served.address);
    Runtime::new().unwrap().block_on(delayed_event(store, &proxy));
}

async fn delayed_event(store: Store, proxy: &Proxy) {
    let app = owning_app(store).await;
    write(&app, "before").await;
    let owner = Site::start(Server::new(app.clone())).await;
    let mut posters = Vec::new();
    for _ in 0..3 {
        let poster = poster_of(format!("diptych://{}", proxy.address())).await;
        posters.push(Site::start(Server::poster(poster).owner(owner.owner())).await);
    }
    // The source delays the event.
    proxy.set(Mode::LosesReplies);
    let receipt = posters[0].write("after").await.ok()["receipt"].as_str().unwrap().to_owned();
    let own = app.query(Words {}).strong().await.unwrap();
    assert_eq!(own.value, ["before", "after"]);
    for poster in &posters {
        let answer = poster.get("/queries/words").await;
        assert_eq!(answer.ok(), json!(["before"]));
        assert!(answer.headers.contains_key("diptych-source-age"), "{answer:?}");
        let late = poster.get(&format!("/queries/words?_after={receipt}&_within=100")).await;
        let word = late.json()["type"].as_str().unwrap().to_owned();
        // The source, which does not answer, has to confirm the receipt.
        assert!(["urn:diptych:not-yet", "urn:diptych:unavailable"].contains(&&*word), "{late:?}");
    }
    proxy.set(Mode::Passes);
    proxy.cut();
    // The receipt of one poster is valid at all.
    for poster in &posters {
        let target = format!("/queries/words?_after={receipt}&_within=15000");
        let answer = until(poster.address, &target, |answer| answer.status == 200).await;
        assert_eq!(answer.ok(), json!(["before", "after"]));
    }
}

/// EP-A3 of the pattern.
#[tokio::test(flavor = "multi_thread")]
async fn while_its_source_is_away_a_poster_answers_and_says_how_old_the_answers_are() {
    let (folder, address) = (TempDir::new().unwrap(), free_address());
    let mut source = ServerProcess::start(folder.path(), address);
    let app = App::connect(&format!("diptych://{address}")).await.unwrap();
    let app = app.catalogue(catalogue()).start().await.unwrap();
    let receipt = write(&app, "kept").await;
    let poster = poster_of(format!("diptych://{address}")).await;
    let site = Site::start(Server::poster(poster.clone())).await;
    let is_away = |answer: &Answer| answer.headers.contains_key("diptych-source-away-since");
    let here = until(site.address, &format!("/queries/words?_after={receipt}"), |_| true).await;
    assert!(here.ok() == json!(["kept"]) && !is_away(&here), "{here:?}");

    let stream = TcpStream::connect(site.address).await.unwrap();
    let mut stream = BufReader::new(stream);
    let request = "GET /queries/words/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    source.kill();
    // The stream says so by itself.
    let told = in_time(async {
        let (mut line, mut is_source) = (String::new(), false);
        loop {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            if is_source && line.starts_with("data: ") {
                return serde_json::from_str::<Value>(&line["data: ".len()..]).unwrap();
            }
            is_source |= line.starts_with("event: source");
        }
    });
    assert!(told.await["away_since"].is_string());
    let old = site.get("/queries/words").await;
    assert_eq!(old.ok(), json!(["kept"]));
    assert!(is_away(&old), "{old:?}");
    let age = |answer: &Answer| -> f64 {
        answer.headers["diptych-source-age"].to_str().unwrap().parse().unwrap()
    };
    let older = until(site.address, "/queries/words", |answer| age(answer) > age(&old)).await;
    assert_eq!(older.ok(), json!(["kept"]));
    let status = site.get("/status").await.ok();
    assert!(status["source"]["away_since"].is_string(), "{status}");
    assert!(site.get("/ready").await.ok()["source_away_since"].is_string());
    let strong = site.get("/queries/words?_consistency=strong&_within=100").await;
    assert!(strong.status == 503 && strong.json()["source_away_since"].is_string(), "{strong:?}");

    let _source = ServerProcess::start(folder.path(), address);
    let back = until(site.address, "/queries/words", |answer| !is_away(answer)).await;
    assert_eq!(back.ok(), json!(["kept"]));
    assert_eq!(poster.source().absence, None);
}

/// The owner sees the credential of the user, and never that of the poster.
#[tokio::test(flavor = "multi_thread")]
async fn the_owner_gets_the_credential_of_the_user_and_none_of_the_poster() {
    let tokens = Tokens::new();
    let token = tokens.issue("poster", [TokenScope::Read]);
    let store = Store::new(Memory::new());
    let log = DoorServer::over(store.clone(), |server: LogServer| {
        server.token_file(tokens.path()).unwrap()
    });
    let log = log.await;
    let app = owning_app(store).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let admitted = seen.clone();
    let owner = Server::new(app).admit(move |visit| {
        admitted.lock().unwrap().push(visit.headers.clone());
        std::future::ready(Ok(Caller::named("ann")))
    });
    let owner = Site::start(owner).await;
    let mut with_token = quick();
    with_token.remote = options(&token);
    let poster = Poster::follow(format!("diptych://{}", log.address)).catalogue(catalogue());
    let poster = poster.options(with_token).open().await.unwrap();
    let site = Site::start(Server::poster(poster).owner(owner.owner())).await;

    let headers = [("authorization", "Bearer of-ann"), ("cookie", "session=1"), ("te", "gzip")];
    let answer = post(site.address, "write-word", "hers", &headers).await;
    answer.ok();
    let plain = post(site.address, "write-word", "nobody's", &[]).await;
    plain.ok();
    let rude = post(site.address, "write-word", "rude", &headers).await;
    assert_eq!(rude.problem(422, "rejected")["rejection"]["word"], "rude");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0]["authorization"], "Bearer of-ann");
    assert!(!seen[1].contains_key("authorization"));
    for (headers, answer) in seen.iter().zip([&answer, &plain, &rude]) {
        assert!(!format!("{headers:?}").contains(&token), "the poster's own token went out");
        assert!(!headers.contains_key("cookie") && !headers.contains_key("te"), "{headers:?}");
        assert_eq!(headers["idempotency-key"], answer.headers["idempotency-key"]);
    }
}

/// An owner that loses its answers, and an owner that answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_an_answer_is_sent_again_under_one_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let owner = Owner::at(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let requests = Arc::new(Mutex::new(Vec::<String>::new()));
    let heard = requests.clone();
    let lossy = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut text, mut bytes) = (String::new(), [0; 4096]);
            while !text.ends_with('}') {
                let read = stream.read(&mut bytes).await.unwrap();
                text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            let answers = {
                let mut heard = heard.lock().unwrap();
                heard.push(text);
                heard.len() == 3
            };
            if answers {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let poster = Poster::over(Memory::new()).catalogue(catalogue()).open().await.unwrap();
    let site = Site::start(Server::poster(poster.clone()).owner(owner)).await;
    let answer = site.write("once").await;
    assert_eq!(answer.status, 200);
    lossy.abort();
    let key = answer.headers["idempotency-key"].to_str().unwrap();
    let requests = requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.contains(key)), "{requests:?}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let owner = Owner::at(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let owner = owner.send_time(Duration::from_millis(300));
    let site = Site::start(Server::poster(poster).owner(owner)).await;
    let answer = post(site.address, "write-word", "lost", &[("idempotency-key", "mine")]).await;
    let problem = answer.problem(503, "outcome-unknown");
    assert_eq!(problem["key"], "mine");
    assert_eq!(answer.headers["idempotency-key"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_no_owner_can_carry_out_are_refused_with_the_reason() {
    let poster = Poster::over(Memory::new()).catalogue(catalogue()).open().await.unwrap();
    let alone = Site::start(Server::poster(poster.clone())).await;
    alone.write("a").await.problem(404, "unknown");

    let away = Owner::at(&format!("http://{}", free_address())).unwrap();
    let away = away.send_time(Duration::from_millis(300));
    let away = Site::start(Server::poster(poster.clone()).owner(away)).await;
    let problem = away.write("a").await.problem(503, "unavailable");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("was not carried out") && problem["key"].is_string(), "{problem}");
    // The poster's own answer: no owner was asked.
    post(away.address, "erase", "a", &[]).await.problem(404, "unknown");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let itself = Owner::at(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let circle = Site::on(listener, Server::poster(poster).owner(itself));
    circle.write("a").await.problem(508, "loop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poster_follows_a_folder_and_a_backup_that_grows() {
    let folder = TempDir::new().unwrap();
    let (place, copy) = (folder.path().join("log"), folder.path().join("backup"));
    let log = Log::open(&place, LogOptions::default()).unwrap();
    let app = owning_app(Store::new(log.clone())).await;
    let first = write(&app, "first").await;
    log.backup_to(&copy, SealedSegments::default(), |_, _| {}).unwrap();
    let live = poster_of(place.display()).await;
    let backup = poster_of(copy.display()).await;
    assert_eq!(digest(&live, &first).await, digest(&backup, &first).await);
    let second = write(&app, "second").await;
    let shown = digest(&live, &second).await;
    // The backup does not have it yet.
    assert_eq!(backup.query(Words {}).await.unwrap().value, ["first"]);
    log.backup_to(&copy, SealedSegments::default(), |_, _| {}).unwrap();
    assert_eq!(digest(&backup, &second).await, shown);
    assert!(backup.age(second.last()) < LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_another_history_ends_the_views_and_is_never_mixed_in() {
    let (store, address) = (Store::new(Memory::new()), free_address());
    let app = owning_app(store.clone()).await;
    let receipt = write(&app, "of the first").await;
    let served = ServedLog::start_at(store, address);
    let poster = poster_of(format!("diptych://{address}")).await;
    digest(&poster, &receipt).await;
    drop(served);
    let other = Store::new(Memory::new());
    let app = owning_app(other.clone()).await;
    for _ in 0..3 {
        write(&app, "of the second").await;
    }
    let _served = ServedLog::start_at(other, address);
    let is_other = |state: &FollowState| matches!(state, FollowState::HistoryChanged(_));
    in_time(async {
        while !poster.views().iter().all(|view| is_other(&view.state)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let error = poster.query(Words {}).await.unwrap_err().to_string();
    assert!(error.contains("start again"), "{error}");
    let says_so = |poster: &Poster| {
        poster.source().absence.is_some_and(|absence| absence.reason.contains("start again"))
    };
    in_time(async {
        while !says_so(&poster) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let site = Site::start(Server::poster(poster)).await;
    site.get("/queries/words").await.problem(503, "unavailable");
    let not_ready = site.get("/ready").await;
    not_ready.problem(503, "not-ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poster_waits_for_a_source_that_is_away_and_refuses_a_command_of_its_own() {
    let address = free_address();
    let opening = tokio::spawn(async move { poster_of(format!("diptych://{address}")).await });
    let store = Store::new(Memory::new());
    let app = owning_app(store.clone()).await;
    let receipt = write(&app, "late").await;
    let _served = ServedLog::start_at(store, address);
    let poster = in_time(opening).await.unwrap();
    assert_eq!(poster.query(Words {}).after(&receipt).await.unwrap().value, ["late"]);
    let own = WriteWord { word: "own".to_owned() };
    let error = poster.read_only_app().execute(own).await.unwrap_err().to_string();
    assert!(error.contains("a poster writes nothing"), "{error}");
}
