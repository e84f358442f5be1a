//! The schema lock: the shapes that events had when they were first written, in a file that is
//! reviewed like the program.

mod compare;
mod file;
mod shape;
mod value;

use std::{
    any::type_name,
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fmt,
    path::PathBuf,
    sync::Arc,
};

use diptych_store::{LogId, RawEvent, Tag};

use crate::{
    event::{EncodedEvent, Event, EventType, Reading, SchemaError, Upcasters, encoded},
    faithful::with_marked_sets,
};
use file::Sample;

/// The environment variable that turns recording on.
const VARIABLE: &str = "DIPTYCH_SCHEMAS";
const RECORD: &str = "record";

/// Keeps the shapes and samples of events in a file of the repository, and fails when a shape, a
/// value or a tag changes without a new version and an upcaster.
///
/// Events in a log never change, but the program that reads them does. This test finds a mismatch
/// before the program meets such a log:
///
/// ```no_run
/// # use diptych::{
/// #     Event, EventType, Upcasters, event::{EncodedEvent, Json, SchemaError}, store::RawEvent,
/// # };
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Deposited { account: String, amount: u64 }
/// # impl Event for Deposited {
/// #     fn types() -> Vec<EventType> { vec![EventType::new("money-deposited")] }
/// #     fn encode(&self) -> Result<RawEvent, SchemaError> {
/// #         Ok(RawEvent::new("money-deposited", serde_json::to_vec(self).unwrap()))
/// #     }
/// #     fn decode(encoded: &EncodedEvent<'_>) -> Result<Self, SchemaError> {
/// #         encoded.read::<Json, _>()
/// #     }
/// # }
/// # fn upcasters() -> Upcasters { Upcasters::new() }
/// use diptych::testing::SchemaLock;
///
/// # /*
/// #[test]
/// # */
/// fn event_schemas() {
///     SchemaLock::new(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas.json"))
///         .upcasters(upcasters())
///         .events([Deposited { account: "ann".to_owned(), amount: 20 }])
///         .check();
/// }
/// ```
///
/// Run it once with `DIPTYCH_SCHEMAS=record`, and commit the file. Do so again for every new type
/// and every new version. Recording only adds to the file.
///
/// It fails if
///
/// - an event type has no sample, or its version is not recorded;
/// - tag keys, codec or shape of a version differ from the recorded ones. An additional optional
///   field counts as another shape, because an older program would lose it;
/// - a recorded sample is read as another value. For example, an integer above 2^53 that is read as
///   a float loses digits, and a list that is read as a set loses elements;
/// - a recorded sample would get other tags today. Events in a log keep the tags that they were
///   written with, so a rule that asks by the new ones would not see them;
/// - a field has another Rust type, as `#[derive(Event)]` sees it, although all samples are read as
///   before. This may be intended, and recording accepts it;
/// - the upcasters do not turn a recorded sample, of any version, into events of the program. An
///   upcaster may drop the type, but a type that the program neither reads nor drops is a failure.
///
/// # The shape of an event
///
/// The shape consists of the fields that the samples show, also after they are read and written
/// again, and of the kinds of their values: `amount: number`, `owner.name: string`,
/// `lines[].price: number`, `note: null|string`. So give samples that show everything: each variant
/// of an enum, options with and without a value, lists with an element. The kind of a field that
/// was `null`, or an empty list, in every sample may become known later. Any other difference that
/// new samples show is a change. If the type did not change, or was never used, remove its entry
/// from the file and record it again.
///
/// Values are compared as their codec writes them: numbers with all digits, lists in order, hash
/// sets without. So give samples with large numbers and with lists that hold an element twice. A
/// change that no sample shows is told only if the type of the field itself changed.
///
/// The keys of a map are like fields of a struct: give it the same keys in every sample. The shape
/// is known only for the codecs `json` and `messagepack`. For other codecs the test only checks
/// that samples can still be read, and their tags.
///
/// One file belongs to one test, which gives it all events of the program.
pub struct SchemaLock {
    path: PathBuf,
    upcasters: Upcasters,
    families: Vec<Family>,
    current: BTreeMap<&'static str, Current>,
    record: Option<bool>,
    problems: Vec<String>,
}

/// One Rust type of events.
struct Family {
    types: Vec<EventType>,
    reader: fn(Arc<Upcasters>) -> Result<Reader, SchemaError>,
}

/// Reads an event at its current version, and writes it again.
type Reader = Box<dyn Fn(&EncodedEvent<'_>) -> Result<RawEvent, SchemaError>>;

/// An event type as it is now.
struct Current {
    of: EventType,
    samples: Vec<Sample>,
}

impl SchemaLock {
    /// With this file, which has to be in the repository.
    pub fn new(path: impl Into<PathBuf>) -> SchemaLock {
        SchemaLock {
            path: path.into(),
            upcasters: Upcasters::new(),
            families: Vec::new(),
            current: BTreeMap::new(),
            record: None,
            problems: Vec::new(),
        }
    }

    /// With the upcasters of the program.
    #[must_use]
    pub fn upcasters(mut self, upcasters: Upcasters) -> SchemaLock {
        self.upcasters = upcasters;
        self
    }

    /// With the events of `E`: at least one of each of its types.
    #[must_use]
    pub fn events<E: Event>(mut self, samples: impl IntoIterator<Item = E>) -> SchemaLock {
        if let Err(error) = self.add(samples) {
            self.problems.push(error.to_string());
        }
        self
    }

    /// Whether to record entries that the file lacks, whatever `DIPTYCH_SCHEMAS` says.
    #[must_use]
    pub fn record(mut self, record: bool) -> SchemaLock {
        self.record = Some(record);
        self
    }

    /// Checks the events against the file.
    ///
    /// # Panics
    /// With a [`SchemaReport`] if they do not fit.
    #[track_caller]
    pub fn check(self) {
        if let Err(report) = self.try_check() {
            panic!("{report}");
        }
    }

    /// Checks the events against the file.
    ///
    /// # Errors
    /// [`SchemaReport`] if they do not fit.
    pub fn try_check(self) -> Result<(), SchemaReport> {
        compare::check(self)
    }

    fn add<E: Event>(&mut self, samples: impl IntoIterator<Item = E>) -> Result<(), SchemaError> {
        let reading = reading::<E>(Arc::default())?;
        let types = E::types();
        for of in &types {
            let current = Current { of: *of, samples: Vec::new() };
            let known = self.current.entry(of.name).or_insert(current);
            if known.of.version != of.version
                || known.of.codec != of.codec
                || !same_set(known.of.tags, of.tags)
            {
                let problem = format!(
                    "{} of {} is not declared like an event of the same type that was given \
                     before it: make version, codec and tag keys the same",
                    of.name,
                    type_name::<E>()
                );
                return Err(SchemaError::Declaration { problem });
            }
            // The derive may have declared the second of two Rust types, and it tells the fields.
            if known.of.fields().is_none() {
                known.of = *of;
            }
        }
        self.families.push(Family { types, reader: reader::<E> });
        for sample in samples {
            let sample = sample.encode()?;
            reading.check(&sample)?;
            let tags = Some(tags_of(&sample));
            let current = self.current.get_mut(&*sample.event_type);
            let sample = Sample { payload: sample.payload, tags };
            if let Some(current) = current.filter(|of| !of.samples.contains(&sample)) {
                current.samples.push(sample);
            }
        }
        Ok(())
    }

    /// Whether to record. Any other value of the variable is most likely a mistake.
    fn records(&mut self) -> bool {
        self.record.unwrap_or_else(|| match env::var_os(VARIABLE) {
            None => false,
            Some(word) if word == RECORD => true,
            Some(word) => {
                let problem = format!("{VARIABLE} is {word:?}: set it to `{RECORD}` or to nothing");
                self.problems.push(problem);
                false
            }
        })
    }
}

impl fmt::Debug for SchemaLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.current.keys().collect();
        let lock = &mut f.debug_struct("SchemaLock");
        lock.field("path", &self.path).field("types", &types).finish_non_exhaustive()
    }
}

fn tags_of(event: &RawEvent) -> BTreeSet<String> {
    event.tags.iter().map(Tag::to_string).collect()
}

fn same_set(one: &[&str], other: &[&str]) -> bool {
    one.iter().all(|key| other.contains(key)) && other.iter().all(|key| one.contains(key))
}

fn reading<E: Event>(upcasters: Arc<Upcasters>) -> Result<Reading<E>, SchemaError> {
    // The ids of events derive from the id of the log, and are not compared here.
    Reading::new(upcasters, LogId::from_bytes([0; 16]))
}

fn reader<E: Event>(upcasters: Arc<Upcasters>) -> Result<Reader, SchemaError> {
    let reading = reading::<E>(upcasters)?;
    Ok(Box::new(move |encoded| {
        let event = reading.decode(encoded)?;
        with_marked_sets(|| event.encode())
    }))
}

/// Reads events of any version, as the program reads them today.
struct Readers {
    upcasters: Arc<Upcasters>,
    families: Vec<(Vec<EventType>, Reader)>,
}

impl Readers {
    fn new(upcasters: Upcasters, families: Vec<Family>) -> Result<Readers, SchemaError> {
        upcasters.check()?;
        let upcasters = Arc::new(upcasters);
        let open = |family: Family| Ok((family.types, (family.reader)(Arc::clone(&upcasters))?));
        let families = families.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Readers { upcasters, families })
    }

    /// The events that the program would write today for this one, one for each Rust type that
    /// reads it; none if it is dropped. Sets in them are marked.
    ///
    /// # Errors
    /// [`SchemaError`] if an upcaster fails, or if its result is read by no event type, or not by
    /// every event type of that name.
    fn read(&self, event: &RawEvent) -> Result<Vec<RawEvent>, SchemaError> {
        let mut written = Vec::new();
        for upcast in self.upcasters.apply(&encoded(event))? {
            let mut known = false;
            for (types, reader) in &self.families {
                if types.iter().any(|of| of.name == upcast.event_type) {
                    known = true;
                    written.push(reader(&upcast.encoded())?);
                }
            }
            if !known {
                return Err(SchemaError::UnknownType {
                    event_type: upcast.event_type.into_owned(),
                    version: upcast.version,
                    wanted: "the events that were given to the schema lock",
                });
            }
        }
        Ok(written)
    }
}

/// Why the events of the program and its schema lock do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaReport {
    path: PathBuf,
    problems: Vec<String>,
}

impl SchemaReport {
    /// The problems. Each says what is wrong, where, and how to fix it.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for SchemaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "the events of the program and {path} do not fit:")?;
        for (at, problem) in self.problems.iter().enumerate() {
            write!(f, "\n\n{}. {}", at + 1, problem.trim_end())?;
        }
        Ok(())
    }
}

impl Error for SchemaReport {}
