//! Metrics and traces of commands and views, for programs that installed a recorder.

use std::{collections::BTreeMap, fmt, sync::Arc};

use diptych::{App, Memory, Store, Uuid, follow::FollowState};
use parking_lot::Mutex;
use pollster::block_on;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};

use crate::support::{
    bank::{self, deposit, withdraw},
    ledger::{HookedLedger, Ledger, Look, LookInMirror, Mirror, Moment, comes, write},
    measured::MetricsRecorder,
    rows::{Rows, Trouble},
};

/// Starts an app that is measured.
fn start_measured(measured: &MetricsRecorder, builder: diptych::AppBuilder) -> App {
    metrics::with_local_recorder(measured, || block_on(builder.start()).unwrap())
}

/// The view itself is blocked, so it cannot report its lag.
#[test]
fn a_fold_that_hangs_shows_up_as_lag() {
    let (ledger, store) = (HookedLedger::new(), Store::new(Memory::new()));
    let measured = MetricsRecorder::default();
    let app = start_measured(&measured, App::over_store(store.clone()).view::<Ledger>());
    let lag = |unit: &str| measured.of(&format!("diptych_lag_{unit} kind=view name=Ledger"));
    let (go, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    ledger.set(move |moment| {
        if let Moment::Apply(_) = moment {
            let _ = held.lock().recv();
        }
    });
    write(&store, ledger.commit(&[1]));
    comes("a lag", || lag("positions") == 1);
    comes("a lag in seconds", || lag("seconds") >= 1);
    drop(go);
    comes("no lag", || lag("positions") == 0 && lag("seconds") == 0);
    drop(app);
}

#[test]
fn views_and_projections_that_lag_stall_or_stop_show_up() {
    let (ledger, store, rows) = (HookedLedger::new(), Store::new(Memory::new()), Rows::default());
    let measured = MetricsRecorder::default();
    let app = App::over_store(store.clone()).view::<Ledger>().view::<Mirror>();
    let app = start_measured(&measured, app.projection(rows.clone()));
    let (view, projection) = (app.view::<Ledger>().unwrap(), app.projection("rows").unwrap());
    let [of_view, of_mirror, of_rows] =
        ["kind=view name=Ledger", "kind=view name=Mirror", "kind=projection name=rows"];
    let lag = |of: &str| measured.of(&format!("diptych_lag_positions {of}"));
    let is_stopped = |of: &str| measured.of(&format!("diptych_stopped {of}"));
    write(&store, ledger.commit(&[1, 2, 3]));
    for of in [of_view, of_mirror, of_rows] {
        comes("all events", || measured.of(&format!("diptych_events_folded_total {of}")) == 3);
        comes("no lag", || lag(of) == 0 && is_stopped(of) == 0);
    }

    // A paused view falls behind.
    block_on(view.pause()).unwrap();
    write(&store, ledger.commit(&[4]));
    comes("a lag", || lag(of_view) == 1);
    comes("a lag in seconds", || measured.of(&format!("diptych_lag_seconds {of_view}")) >= 1);
    comes("no lag", || lag(of_mirror) == 0 && lag(of_rows) == 0);
    block_on(view.resume()).unwrap();
    comes("no lag", || lag(of_view) == 0);
    comes("no lag in seconds", || measured.of(&format!("diptych_lag_seconds {of_view}")) == 0);

    // A stopped view falls further behind.
    ledger.set(|moment| {
        if let Moment::Apply(booked) = moment {
            assert!(booked.amount != 5, "no 5 here");
        }
    });
    write(&store, ledger.commit(&[5]));
    comes("a stop", || is_stopped(of_view) == 1 && lag(of_view) == 1);
    write(&store, ledger.commit(&[6]));
    comes("a longer lag", || lag(of_view) == 2);
    assert_eq!(is_stopped(of_mirror), 0);
    ledger.clear();
    block_on(view.resume()).unwrap();
    comes("no stop", || is_stopped(of_view) == 0 && lag(of_view) == 0);

    // The target of the projection is unavailable for five calls.
    comes("no lag", || lag(of_rows) == 0);
    rows.next(&[Trouble::Unavailable; 5]);
    write(&store, ledger.commit(&[7]));
    comes("a stall", || matches!(projection.status().state, FollowState::Stalled { .. }));
    assert_eq!(is_stopped(of_rows), 0);
    comes("no lag", || lag(of_rows) == 0);
    assert_eq!(block_on(app.query(Look).strong().into_future()).unwrap().sum, 28);
    assert_eq!(block_on(app.query(LookInMirror).strong().into_future()).unwrap().sum, 28);
}

#[test]
fn commands_are_counted_by_how_they_ended() {
    let measured = MetricsRecorder::default();
    let app = start_measured(&measured, App::over(Memory::new()));
    metrics::with_local_recorder(&measured, || {
        block_on(app.execute(bank::open("anna")).into_future()).unwrap();
        for _ in 0..3 {
            block_on(app.execute(deposit("anna", 5)).into_future()).unwrap();
        }
        block_on(block_on(app.execute(deposit("anna", 5)).submit())).unwrap();
        block_on(app.execute(deposit("anna", 2_000_000)).into_future()).unwrap_err();
        block_on(app.execute(withdraw("anna", 21)).into_future()).unwrap_err();
    });
    let commands = |command: &str, outcome: &str| {
        measured.of(&format!("diptych_commands_total command={command} outcome={outcome}"))
    };
    assert_eq!((commands("Open", "receipt"), commands("Open", "rejection")), (1, 0));
    assert_eq!((commands("Deposit", "receipt"), commands("Deposit", "failure")), (4, 1));
    assert_eq!((commands("Withdraw", "receipt"), commands("Withdraw", "rejection")), (0, 1));
    assert_eq!(measured.of("diptych_command_seconds command=Deposit"), 5);
    assert_eq!(measured.of("diptych_append_seconds"), 5);
    assert_eq!(measured.of("diptych_conflicts_total"), 0);
    assert!(measured.of("diptych_decision_cache_hits_total") > 0);
}

/// The fields of each span, in the order in which the spans were created.
#[derive(Clone, Default)]
struct SpanFields(Arc<Mutex<Vec<BTreeMap<&'static str, String>>>>);

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for SpanFields {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut spans = self.0.lock();
        let mut fields = BTreeMap::from([("span", attributes.metadata().name().to_owned())]);
        attributes.record(&mut Fields(&mut fields));
        spans.push(fields);
        span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock()[span.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn the_span_of_a_command_has_its_correlation_and_its_outcome() {
    let traced = SpanFields::default();
    let (correlation, causation) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let app = block_on(App::over(Memory::new()).start()).unwrap();
    tracing::subscriber::with_default(traced.clone(), || {
        let open = app.execute(bank::open("anna")).correlation(correlation).causation(causation);
        block_on(open.into_future()).unwrap();
        block_on(app.execute(withdraw("anna", 1)).into_future()).unwrap_err();
        let pending = block_on(app.execute(deposit("anna", 1)).correlation(correlation).submit());
        block_on(pending).unwrap();
    });
    let spans = traced.0.lock();
    let [opened, refused, submitted] = &spans[..] else { panic!("{spans:?}") };
    assert!(spans.iter().all(|fields| fields["span"] == "execute"));
    assert_eq!(
        (&opened["correlation"], &opened["causation"]),
        (&correlation.to_string(), &causation.to_string())
    );
    assert!(opened["command"].ends_with("bank::Open\""), "{opened:?}");
    assert_eq!((opened["first"].as_str(), opened["last"].as_str()), ("1", "1"));
    assert!(refused["error"].contains("the balance is 0, less than 1"), "{refused:?}");
    assert!(!refused.contains_key("correlation") && !refused.contains_key("first"));
    assert_eq!(
        (&submitted["correlation"], submitted["last"].as_str()),
        (&correlation.to_string(), "2")
    );
}
