use diptych::{
    Memory, Position, StartError, Store,
    poster::Poster,
    process::{
        Process, ProcessOptions, ProcessStart, ProcessStartError, ReactionContext, Reactions,
        Trigger,
    },
    testing::Clock,
};

use super::orders::{
    Fulfilment, Order, Place, catalogue, counts, idle, quick, running, shop, until,
};

/// The fulfilment under another name.
#[derive(Default)]
struct Delivery(Fulfilment);

impl Process for Delivery {
    type Event = Order;
    const NAME: &'static str = "delivery";
    const TAG: &'static str = "order";

    fn apply(&mut self, trigger: &Trigger<Order>) {
        self.0.apply(trigger);
    }

    fn react(&self, trigger: &Trigger<Order>, _: &ReactionContext<'_>) -> Reactions {
        match trigger.event() {
            Some(Order::Placed { order }) => {
                let reason = "delivery".to_owned();
                let cancel = super::orders::Cancel { order: *order, reason };
                Reactions::none().send("cancel-order", &cancel)
            }
            _ => Reactions::none(),
        }
    }
}

#[tokio::test]
async fn a_renamed_process_is_refused_until_the_line_is_there() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = running(&store, &clock).await;
    app.execute(Place { order: 1 }).await.unwrap();
    idle(&app).await;
    app.stop().await.unwrap();
    let start = |options| {
        shop(&store, &clock).process_with::<Delivery>(ProcessStart::Beginning, options).start()
    };
    let refused = start(quick()).await.unwrap_err();
    let StartError::Process(ProcessStartError::LooksRenamed { name, other }) = &refused else {
        panic!("{refused}");
    };
    assert_eq!((*name, &**other), ("delivery", "fulfilment"));
    assert!(refused.to_string().contains(r#"`.renamed_from("fulfilment")`"#), "{refused}");
    let app = start(quick().renamed_from("fulfilment")).await.unwrap();
    idle(&app).await;
    assert_eq!(counts(&store, "order-cancelled").await.len(), 0, "the old event is not reacted to");
    app.execute(Place { order: 2 }).await.unwrap();
    idle(&app).await;
    assert_eq!(counts(&store, "order-cancelled").await.len(), 1);
    app.stop().await.unwrap();
    // From now on the log knows it by the new name, so the line may go.
    start(quick()).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_like_process_may_start_beside_a_retired_one() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    running(&store, &clock).await.stop().await.unwrap();
    let app = shop(&store, &clock)
        .retired_process("fulfilment")
        .process_with::<Delivery>(ProcessStart::Now, quick());
    app.start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_new_process_begins_where_it_says() {
    for (start, expected) in [
        (ProcessStart::Beginning, vec!["1", "2", "3", "4"]),
        (ProcessStart::Now, vec!["4"]),
        (ProcessStart::After(Position::new(2)), vec!["3", "4"]),
    ] {
        let (store, clock) = (Store::new(Memory::new()), Clock::new());
        let app = shop(&store, &clock).start().await.unwrap();
        for order in 1..=3 {
            app.execute(Place { order }).await.unwrap();
        }
        app.stop().await.unwrap();
        let app = shop(&store, &clock).process_with::<Delivery>(start, quick());
        let app = app.start().await.unwrap();
        app.execute(Place { order: 4 }).await.unwrap();
        idle(&app).await;
        let reacted: Vec<_> = counts(&store, "order-cancelled").await.into_keys().collect();
        assert_eq!(reacted, expected, "{start:?}");
        app.stop().await.unwrap();
        // The place is in the log: another start makes no difference.
        let app = shop(&store, &clock).process_with::<Delivery>(ProcessStart::Beginning, quick());
        let app = app.start().await.unwrap();
        idle(&app).await;
        assert_eq!(counts(&store, "order-cancelled").await.len(), expected.len(), "{start:?}");
        app.stop().await.unwrap();
    }
}

#[tokio::test]
async fn two_processes_of_one_name_are_an_error() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let options = ProcessOptions::default;
    let twice = shop(&store, &clock)
        .process_with::<Delivery>(ProcessStart::Now, options())
        .process_with::<Delivery>(ProcessStart::Now, options());
    let error = twice.start().await.unwrap_err();
    assert!(matches!(error, StartError::Process(ProcessStartError::Twice { name: "delivery" })));
}

#[tokio::test]
async fn a_poster_runs_no_process() {
    let (store, clock) = (Store::new(Memory::new()), Clock::new());
    let app = shop(&store, &clock).start().await.unwrap();
    app.execute(Place { order: 1 }).await.unwrap();
    let poster = Poster::over_store(store.clone())
        .catalogue(catalogue().process::<Fulfilment>(ProcessStart::Beginning))
        .with(|app| app.process_with::<Delivery>(ProcessStart::Beginning, quick()));
    let poster = poster.open().await.unwrap();
    let head = poster.head();
    app.execute(Place { order: 2 }).await.unwrap();
    until("the poster sees the order", || async { poster.head() > head }).await;
    assert_eq!(store.head().position().get(), head.get() + 1, "no process wrote anything");
    poster.stop().await.unwrap();
    app.stop().await.unwrap();
}
