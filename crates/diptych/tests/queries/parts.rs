//! Questions about a part of the log: which part it is, and how much of it is read.

use std::time::Duration;

use diptych::{
    App, Memory, Point, Position, QueryError,
    testing::{Clock, ControlledClock},
};

use crate::support::journal::{Lines, Whole, micros, plain, write};

#[tokio::test]
async fn a_question_reads_no_more_events_than_its_caller_allows() {
    let app = App::over(Memory::new()).start().await.unwrap();
    let entries = plain(3_000, 2, 1_000);
    write(&app, &entries).await;
    for at in [0, 1, 10, 1_024, 1_025, 2_500].map(Position::new) {
        let needed = app.query(Whole).as_of(at).await.unwrap().cost.events;
        let answer = app.query(Whole).as_of(at).read_at_most(needed).await.unwrap();
        assert_eq!(answer.cost.events, needed);
        let explained = app.explain(Whole).as_of(at).read_at_most(needed).await.unwrap();
        assert_eq!((explained.events.len() as u64, explained.is_whole), (needed, true));
        for limit in [needed / 2, needed.saturating_sub(1)] {
            if limit == needed {
                continue;
            }
            let answer = app.query(Whole).as_of(at).read_at_most(limit).await.unwrap_err();
            let explained = app.explain(Whole).as_of(at).read_at_most(limit).await.unwrap_err();
            let over = QueryError::OverBudget { limit };
            assert_eq!((answer, explained), (over.clone(), over), "{needed} at {at}");
        }
    }
    // An explanation that stops at its limit reads no further.
    let listed = app.explain(Whole).limit(5).read_at_most(6).await.unwrap();
    assert_eq!((listed.events.len(), listed.is_whole), (5, false));
    // A scope reads only its own events.
    let lines = app.query(Lines(1)).as_of(Position::new(10)).read_at_most(5).await.unwrap();
    assert_eq!(lines.cost.events, 5);
    let before = app.query(Whole).occurred_before(micros(i64::MAX)).read_at_most(2_900).await;
    assert_eq!(before.unwrap_err(), QueryError::OverBudget { limit: 2_900 });
}

#[tokio::test]
async fn a_resolved_question_is_about_one_part_of_the_log() {
    let clock = Clock::new();
    let app = App::over(ControlledClock::new(clock.clone())).start().await.unwrap();
    write(&app, &plain(4, 2, 1_000)).await;
    clock.advance(Duration::from_secs(1));
    let later = clock.now();
    let (past, part) = app.query(Whole).at(Point::now()).resolve().await.unwrap();
    assert_eq!((part.upto, part.occurred_before, part.is_final), (Position::new(4), None, false));
    let (_, known) = app.query(Whole).recorded_before(later).resolve().await.unwrap();
    assert!(!known.is_final, "an event can be recorded before the instant");
    write(&app, &plain(1, 2, 1_000)).await;
    assert_eq!(past.await.unwrap().position, Position::new(4));
    let (_, known) = app.query(Whole).recorded_before(later).resolve().await.unwrap();
    assert_eq!((known.upto, known.is_final), (Position::new(4), true));
    let (_, at) = app.query(Whole).as_of(Position::new(5)).resolve().await.unwrap();
    assert!(at.is_final);
    let (explain, _) = app.explain(Whole).resolve().await.unwrap();
    write(&app, &plain(1, 2, 1_000)).await;
    assert_eq!(explain.await.unwrap().upto, Position::new(5));
    let above = app.query(Whole).as_of(Position::new(7)).resolve().await.unwrap_err();
    assert!(matches!(above, QueryError::AboveHead { .. }), "{above}");
}
