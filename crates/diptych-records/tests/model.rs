//! Generated changes and questions, compared with a plain map.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::{cmp::Reverse, collections::BTreeMap, env};

use diptych::{App, Event, ExecuteError, Position};
use diptych_records::{
    IndexValue, List, Page, Record, RecordEvent, RecordIntents, Records, Refusal, Row, RowChanges,
    RowFold, WithRecords,
};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Record)]
#[record("thing", intents = Life)]
struct Thing {
    #[key]
    id: u8,
    #[unique]
    code: Option<u8>,
    #[unique]
    mark: Option<u8>,
    #[index]
    kind: String,
    #[index]
    size: Option<i8>,
    #[retired("paint")]
    colour: u8,
}

#[derive(Clone, Debug, PartialEq, Event)]
enum Life {
    #[event("thing-painted")]
    Painted {
        #[tag]
        thing: u8,
        colour: u8,
    },
}

impl RecordIntents<Thing> for Life {
    fn key(&self) -> u8 {
        let Life::Painted { thing, .. } = self;
        *thing
    }

    fn apply(&self, row: &mut Thing) {
        let Life::Painted { colour, .. } = self;
        row.colour = *colour;
    }
}

/// Paints a thing, also one that does not exist.
struct Paint(u8, u8);

impl diptych::Command for Paint {
    type State = Row<Thing>;
    type Event = Life;
    type Rejection = std::convert::Infallible;

    fn boundary(&self) -> diptych::Filter {
        Row::<Thing>::filter(&self.0)
    }

    fn decide(
        &self,
        _: &Row<Thing>,
        _: &diptych::DecisionContext,
    ) -> Result<Vec<Life>, std::convert::Infallible> {
        Ok(vec![Life::Painted { thing: self.0, colour: self.1 }])
    }
}

/// The sum of the colours of all rows.
#[derive(Clone, Default)]
struct Colours(i64);

impl RowChanges<Thing> for Colours {
    fn apply(&mut self, old: Option<&Thing>, new: Option<&Thing>) {
        self.0 -= old.map_or(0, |row| i64::from(row.colour));
        self.0 += new.map_or(0, |row| i64::from(row.colour));
    }
}

struct Sum;

impl diptych::Query for Sum {
    type View = RowFold<Thing, Colours>;
    type Answer = i64;

    fn answer(&self, colours: &RowFold<Thing, Colours>) -> i64 {
        colours.0
    }
}

/// The rows by key, each with its revision.
type Model = BTreeMap<u8, (Thing, u64)>;

fn thing(rng: &mut Rng) -> Thing {
    Thing {
        id: rng.u8(..8),
        code: rng.bool().then(|| rng.u8(..6)),
        mark: rng.bool().then(|| rng.u8(..6)),
        kind: ["a", "b", "c"][rng.usize(..3)].to_owned(),
        size: rng.bool().then(|| rng.i8(-2..3)),
        colour: rng.u8(..3),
    }
}

/// The refusal of a change to `after`, as the model knows it.
fn refused(model: &Model, after: &Thing) -> Option<&'static str> {
    let before = model.get(&after.id).map(|(row, _)| row);
    let is_same = |one: Option<u8>, other: Option<u8>| one.is_some() && one == other;
    let is_taken = |(row, _): &(Thing, u64)| {
        let is_same = is_same(row.code, after.code) || is_same(row.mark, after.mark);
        row.id != after.id && is_same
    };
    if before.is_some_and(|before| before.colour != after.colour) {
        return Some("retired");
    }
    model.values().any(is_taken).then_some("taken")
}

fn kind_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Exists { .. } => "exists",
        Refusal::Missing { .. } => "missing",
        Refusal::Taken { .. } => "taken",
        Refusal::Stale { .. } => "stale",
        Refusal::Retired { .. } => "retired",
        other => panic!("unexpected: {other}"),
    }
}

/// One change of the rows, and of the model. Both have to agree.
async fn change(app: &App, things: &Records<Thing>, model: &mut Model, rng: &mut Rng) {
    let row = thing(rng);
    let known = model.get(&row.id).cloned();
    let revision = known.as_ref().map_or(0, |(_, revision)| *revision);
    let wrong = rng.u8(..5) == 0;
    let expected = match (wrong, rng.bool()) {
        (true, _) => Some(Position::new(revision + 1)),
        (false, true) if known.is_some() => Some(Position::new(revision)),
        _ => None,
    };
    let at = things.expecting(expected);
    let missing = known.is_none().then_some("missing");
    let stale = wrong.then_some("stale");
    let (answer, wanted, after) = match rng.u8(..6) {
        0 | 1 => {
            let wanted = known.is_some().then_some("exists").or_else(|| refused(model, &row));
            (things.create(row.clone()).await, wanted, Some(row.clone()))
        }
        2 => {
            let wanted = missing.or(stale).or_else(|| refused(model, &row));
            (at.replace(row.clone()).await, wanted, Some(row.clone()))
        }
        3 => {
            let mut after = known.as_ref().map_or_else(|| row.clone(), |(row, _)| row.clone());
            let patch = match rng.u8(..3) {
                0 => {
                    (after.code, after.size) = (row.code, row.size);
                    json!({ "code": row.code, "size": row.size })
                }
                1 => {
                    after.mark = row.mark;
                    json!({ "mark": row.mark })
                }
                _ => {
                    (after.code, after.mark) = (row.code, row.mark);
                    json!({ "code": row.code, "mark": row.mark })
                }
            };
            let wanted = missing.or(stale).or_else(|| refused(model, &after));
            (at.patch(row.id, patch).await, wanted, Some(after))
        }
        4 => (at.delete(row.id).await, missing.or(stale), None),
        _ => {
            let receipt = app.execute(Paint(row.id, row.colour)).await.unwrap();
            if let Some((row_known, revision)) = model.get_mut(&row.id) {
                (row_known.colour, *revision) = (row.colour, receipt.last().get());
            }
            return;
        }
    };
    let found = match &answer {
        Ok(_) => None,
        Err(ExecuteError::Rejected(refusal)) => Some(kind_of(refusal)),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(found, wanted, "{row:?} {known:?} {expected:?}");
    let Ok(receipt) = answer else { return };
    match after {
        Some(after) if receipt.events() > 0 => {
            drop(model.insert(after.id, (after, receipt.last().get())));
        }
        Some(after) => assert_eq!(known.map(|(row, _)| row), Some(after), "nothing changed"),
        None => drop(model.remove(&row.id)),
    }
}

fn rows(page: &Page<Thing>) -> Vec<(Thing, u64)> {
    page.items.iter().map(|entry| (entry.row.clone(), entry.revision)).collect()
}

/// A list that the rows and the model answer, in pages.
async fn compare_list(things: &Records<Thing>, model: &Model, rng: &mut Rng) {
    let (kind, size, low) = (["a", "b", "x"][rng.usize(..3)], rng.i8(-2..3), rng.i8(-2..3));
    let filter = rng.u8(..8);
    let order = ["id", "kind", "size", "code"][rng.usize(..4)];
    let (is_descending, limit) = (rng.bool(), rng.usize(1..6));
    let list = || {
        let list = List::new().limit(limit).order_by(order);
        let list = if is_descending { list.descending() } else { list };
        match filter {
            0 => list,
            1 => list.equal("kind", kind),
            2 => {
                list.equal("kind", kind).one_of("size", [IndexValue::Null, i32::from(size).into()])
            }
            3 => list.from("size", i32::from(low)),
            4 => list.from("size", i32::from(low)).to("size", i32::from(size)),
            5 => list.one_of("id", [i32::from(size).into(), 3.into(), 3.into(), "3".into()]),
            6 => list.to("code", i32::from(size)),
            _ => list.to("id", 4).equal("kind", kind),
        }
    };
    let is_listed = |(row, _): &(Thing, u64)| match filter {
        0 => true,
        1 => row.kind == kind,
        2 => row.kind == kind && row.size.is_none_or(|own| own == size),
        3 => row.size.is_some_and(|own| own >= low),
        4 => row.size.is_some_and(|own| own >= low && own <= size),
        5 => i16::from(row.id) == i16::from(size) || row.id == 3,
        6 => row.code.is_some_and(|own| i16::from(own) <= i16::from(size)),
        _ => row.id <= 4 && row.kind == kind,
    };
    let mut wanted: Vec<_> = model.values().filter(|row| is_listed(row)).cloned().collect();
    let by = |(row, _): &(Thing, u64)| match order {
        "kind" => (row.kind.clone(), None, row.id),
        "size" => (String::new(), row.size.map(i16::from), row.id),
        "code" => (String::new(), row.code.map(i16::from), row.id),
        _ => (String::new(), None, row.id),
    };
    match is_descending {
        false => wanted.sort_by_key(by),
        true => wanted.sort_by_key(|row| Reverse(by(row))),
    }
    let (mut found, mut next) = (Vec::new(), None::<String>);
    loop {
        let page = next.as_ref().map_or_else(list, |next| list().after(next));
        let page = things.list(page).unwrap().strong().await.unwrap().value;
        assert!(page.items.len() <= limit);
        found.extend(rows(&page));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(found, wanted, "filter {filter} {kind} {size} {low}, order {order}");
}

async fn compare(app: &App, model: &Model) {
    let things = app.records::<Thing>();
    let all = things.list(List::new()).unwrap().strong().await.unwrap();
    assert_eq!(rows(&all), model.values().cloned().collect::<Vec<_>>());
    let sum: i64 = model.values().map(|(row, _)| i64::from(row.colour)).sum();
    assert_eq!(app.query(Sum).strong().await.unwrap().value, sum);
}

#[tokio::test]
async fn generated_changes_lists_and_pasts_agree_with_a_map() {
    let seed = env::var("DIPTYCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("DIPTYCH_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let builder = App::open(folder.path()).unwrap().records::<Thing>();
        builder.view::<RowFold<Thing, Colours>>().start()
    };
    let mut app = open().await.unwrap();
    let (mut model, mut pasts) = (Model::new(), Vec::new());
    for step in 0..600 {
        let things = app.records::<Thing>();
        change(&app, &things, &mut model, &mut rng).await;
        if step % 10 == 0 {
            compare_list(&things, &model, &mut rng).await;
            pasts.push((app.head(), model.clone()));
        }
        if step % 150 == 149 {
            compare(&app, &model).await;
            app.stop().await.unwrap();
            app = open().await.unwrap();
            compare(&app, &model).await;
        }
    }
    let things = app.records::<Thing>();
    for (position, model) in &pasts {
        let then = things.list(List::new()).unwrap().as_of(*position).await.unwrap();
        assert_eq!(rows(&then), model.values().cloned().collect::<Vec<_>>(), "at {position}");
        let key = rng.u8(..8);
        let then = things.get(key).as_of(*position).await.unwrap().value;
        let wanted = model.get(&key).map(|(row, _)| row);
        assert_eq!(then.map(|entry| entry.row).as_ref(), wanted, "row {key} at {position}");
    }
    let written = RecordEvent::<Thing>::types().len();
    assert_eq!(written, 5);
    app.stop().await.unwrap();
}

/// The rows with each code and mark, and how often one was in two rows.
#[derive(Clone, Default)]
struct Codes {
    holders: BTreeMap<(&'static str, u8), u32>,
    doubled: u32,
}

fn values(row: &Thing) -> impl Iterator<Item = (&'static str, u8)> {
    let code = row.code.map(|code| ("code", code));
    code.into_iter().chain(row.mark.map(|mark| ("mark", mark)))
}

impl RowChanges<Thing> for Codes {
    fn apply(&mut self, old: Option<&Thing>, new: Option<&Thing>) {
        for value in old.into_iter().flat_map(values) {
            *self.holders.entry(value).or_default() -= 1;
        }
        for value in new.into_iter().flat_map(values) {
            let holders = self.holders.entry(value).or_default();
            *holders += 1;
            self.doubled += u32::from(*holders > 1);
        }
    }
}

struct DoubleName;

impl diptych::Query for DoubleName {
    type View = RowFold<Thing, Codes>;
    type Answer = u32;

    fn answer(&self, codes: &RowFold<Thing, Codes>) -> u32 {
        codes.doubled
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_one_time_never_give_two_rows_one_unique_value() {
    let seed = env::var("DIPTYCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("DIPTYCH_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let builder = App::open(folder.path()).unwrap().records::<Thing>();
    let app = builder.view::<RowFold<Thing, Codes>>().start().await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..8 {
        let things = app.records::<Thing>();
        let mut rng = Rng::with_seed(seed.wrapping_add(task));
        tasks.push(tokio::spawn(async move {
            let mut done = 0_u32;
            for _ in 0..100 {
                let row = Thing { colour: 0, ..thing(&mut rng) };
                let refused = match rng.u8(..5) {
                    0 => things.create(row).await.err(),
                    1 => things.replace(row).await.err(),
                    2 => things.patch(row.id, json!({ "code": row.code })).await.err(),
                    3 => things.patch(row.id, json!({ "mark": row.mark })).await.err(),
                    _ => things.delete(row.id).await.err(),
                };
                match refused {
                    None => done += 1,
                    Some(ExecuteError::Rejected(_)) => {}
                    Some(error) => panic!("{error}"),
                }
            }
            done
        }));
    }
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    assert!(done > 50, "{done} changes");
    assert_eq!(app.query(DoubleName).strong().await.unwrap().value, 0);
    app.stop().await.unwrap();
}
