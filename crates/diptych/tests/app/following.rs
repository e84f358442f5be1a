//! An app that follows the folder of another: views and queries beside the process that writes.

use std::{collections::BTreeMap, time::Duration};

use diptych::{
    App, CommandError, ExecuteError, Filter, Fold, LogOptions, Query, QueryError, Recorded,
    SessionToken, store::Unavailable,
};

use crate::support::bank::{Banking, deposit, open};

const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
struct Balances(BTreeMap<String, u64>);

impl Fold for Balances {
    type Event = Banking;

    fn apply(&mut self, event: &Recorded<Banking>) {
        if let Banking::Deposited(deposited) = &event.event {
            *self.0.entry(deposited.account.clone()).or_default() += deposited.amount;
        }
    }
}

struct Balance(&'static str);

impl Query for Balance {
    type View = Balances;
    type Answer = u64;

    fn answer(&self, balances: &Balances) -> u64 {
        balances.0.get(self.0).copied().unwrap_or_default()
    }

    fn scope(&self) -> Filter {
        Filter::tag(diptych::Tag::new("account", self.0))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_follows_the_folder_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let writer = App::open(folder.path()).unwrap().start().await.unwrap();
    writer.execute(open("a")).await.unwrap();
    let first = writer.execute(deposit("a", 1)).await.unwrap();
    let reader = App::follow(folder.path()).unwrap().view::<Balances>().start().await.unwrap();
    assert_eq!(reader.identity(), writer.identity());
    // The start has everything that was committed before it.
    assert_eq!(*reader.query(Balance("a")).await.unwrap(), 1);
    for _ in 0..20 {
        // Receipts and tokens of the writer are valid here.
        let receipt = writer.execute(deposit("a", 1)).await.unwrap();
        let answer = reader.query(Balance("a")).after(&receipt).within(LONG).await.unwrap();
        assert!(answer.position >= receipt.last());
        let session = writer.session();
        writer.execute(deposit("a", 1)).session(&session).await.unwrap();
        let token: SessionToken = session.token().await.unwrap().to_string().parse().unwrap();
        reader.query(Balance("a")).token(&token).within(LONG).await.unwrap();
    }
    assert_eq!(*reader.query(Balance("a")).strong().within(LONG).await.unwrap(), 41);
    assert_eq!(*reader.query(Balance("a")).as_of(first.last()).await.unwrap(), 1);
    // It does not write.
    let refused = reader.execute(deposit("a", 1)).await.unwrap_err();
    let ExecuteError::Failed(CommandError::Unavailable(Unavailable::Failed { reason })) = refused
    else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("opened for reading only"), "{reason}");
    // The writer may end and begin again.
    writer.stop().await.unwrap();
    let writer = App::open(folder.path()).unwrap().start().await.unwrap();
    let receipt = writer.execute(deposit("a", 9)).await.unwrap();
    assert_eq!(*reader.query(Balance("a")).after(&receipt).within(LONG).await.unwrap(), 50);
    reader.stop().await.unwrap();
    writer.execute(deposit("a", 1)).await.unwrap();
}

#[tokio::test]
async fn a_folder_without_a_log_cannot_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let error = App::follow(folder.path().join("nothing")).err().unwrap();
    assert!(error.to_string().contains("nothing"), "{error}");
    assert!(App::follow_with(folder.path(), LogOptions::default()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Another history in the folder ends the app that follows it.
#[tokio::test(flavor = "multi_thread")]
async fn another_log_in_the_folder_ends_the_app_that_follows_it() {
    let places = tempfile::tempdir().unwrap();
    let (here, there) = (places.path().join("log"), places.path().join("away"));
    let writer = App::open(&here).unwrap().start().await.unwrap();
    writer.execute(open("a")).await.unwrap();
    writer.stop().await.unwrap();
    let reader = App::follow(&here).unwrap().view::<Balances>().start().await.unwrap();
    std::fs::rename(&here, there).unwrap();
    let writer = App::open(&here).unwrap().start().await.unwrap();
    writer.execute(open("a")).await.unwrap();
    let error = loop {
        match reader.query(Balance("a")).strong().await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, QueryError::Ended { .. } | QueryError::Unavailable { .. }),
        "{error:?}: {error}"
    );
}
