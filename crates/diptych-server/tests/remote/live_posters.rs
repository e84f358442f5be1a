//! Posters show a change by themselves, once its event arrives.

use diptych::{Memory, Store};
use diptych_server::Server;
use serde_json::{Value, json};

use crate::{
    child::free_address,
    http_json::Events,
    poster_process::PosterProcess,
    posters::{Site, owning_app, poster_of},
    served_log::ServedLog,
};

/// The next answer of the stream.
async fn answer(events: &mut Events) -> Value {
    loop {
        let (name, _, data) = events.named().await;
        match name.as_str() {
            "answer" => return data,
            // The position, and how old the answers are.
            "" | "source" => {}
            other => panic!("{other}: {data}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn posters_push_a_changed_answer_after_a_command_that_went_to_the_owner() {
    let store = Store::new(Memory::new());
    let served = ServedLog::start(store.clone());
    let owner = Site::start(Server::new(owning_app(store).await)).await;
    let source = format!("diptych://{}", served.address);
    // One poster is a process of its own. The other one takes the command.
    let address = free_address();
    let _process = PosterProcess::start(&source, owner.address, address);
    let poster = poster_of(&source).await;
    let site = Site::start(Server::poster(poster).owner(owner.owner())).await;

    let mut boards = Vec::new();
    for address in [address, site.address] {
        let mut board = Events::open(address, "/queries/words/live", None).await;
        assert_eq!(answer(&mut board).await["answer"], json!([]));
        boards.push(board);
    }
    for (number, word) in ["first", "second"].into_iter().enumerate() {
        let receipt = site.write(word).await.ok();
        for board in &mut boards {
            let shown = answer(board).await;
            let words = &["first", "second"][..=number];
            assert_eq!((&shown["answer"], &shown["position"]), (&json!(words), &receipt["last"]));
        }
    }
    // A command that the owner rejects changes nothing. The next change is that of the next word.
    assert_eq!(site.write("rude").await.status, 422);
    site.write("third").await.ok();
    for board in &mut boards {
        assert_eq!(answer(board).await["answer"], json!(["first", "second", "third"]));
    }
}
