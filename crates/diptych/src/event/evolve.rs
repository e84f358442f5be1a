use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use diptych_store::Tag;
use foldhash::fast::RandomState;

use super::{
    Codec, EncodedEvent, EventType, Json, JsonObject, SchemaError, UpcastError, retags::SourceType,
};
use crate::panics::caught;

/// Maximum number of upcasting steps for one stored event. It makes a mistake in the declarations
/// an error instead of an endless loop.
const STEPS: u32 = 64;

type UpcastStep = Arc<dyn Fn(&EncodedEvent<'_>) -> Result<Vec<Upcast>, UpcastError> + Send + Sync>;

/// How events that were written by older programs become events that this one knows.
///
/// Each upcaster takes one type at one version, and gives one event, several, or none. Upcasters
/// are chained until none takes the result. The log stays as it is. Decisions, views and
/// projections all apply the same upcasters. A reader that asks for a type also gets the events
/// that can become that type.
///
/// ```
/// use diptych::{Upcasters, event::{JsonObject, Upcast}};
///
/// let upcasters = Upcasters::new()
///     // 1 to 1: version 1 had no currency.
///     .object("account-opened", 1, |payload| payload.insert("currency", "EUR"))
///     // A better name for the event.
///     .rename("customer-relocated", "customer-moved")
///     // 1 to many.
///     .split("customer-changed", 1, &["customer-renamed", "customer-moved"], |old| {
///         let old = JsonObject::parse(old.payload)?;
///         let (mut renamed, mut moved) = (JsonObject::new(), JsonObject::new());
///         renamed.copy(&old, "name", "name")?;
///         moved.copy(&old, "address", "to")?;
///         Ok(vec![
///             Upcast::json("customer-renamed", 1, &renamed)?,
///             Upcast::json("customer-moved", 1, &moved)?,
///         ])
///     })
///     // 1 to none.
///     .drop("heartbeat", 1);
/// # let _ = upcasters;
/// ```
#[derive(Clone, Default)]
pub struct Upcasters {
    by_type: HashMap<Cow<'static, str>, OfType, RandomState>,
    problems: Vec<String>,
}

/// The upcasters of one type.
#[derive(Clone, Default)]
struct OfType {
    renamed: Option<Cow<'static, str>>,
    by_version: BTreeMap<u32, UpcastStep>,
    /// Types that its events can become in one step.
    becomes: BTreeSet<Cow<'static, str>>,
}

/// An event as an upcaster makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upcast {
    /// The stable name of its type.
    pub event_type: Cow<'static, str>,
    /// The schema version of the payload.
    pub version: u32,
    /// The bytes.
    pub payload: Vec<u8>,
    /// Tags that it has today besides those of its own encoding: see [`tag`](Upcast::tag).
    pub tags: Vec<Tag>,
}

impl Upcast {
    /// An event with this payload.
    pub fn new(
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        payload: impl Into<Vec<u8>>,
    ) -> Upcast {
        let (event_type, payload) = (event_type.into(), payload.into());
        Upcast { event_type, version, payload, tags: Vec::new() }
    }

    /// An event with this JSON as its payload.
    ///
    /// # Errors
    /// If the value cannot be written as JSON, or would be read back as another value.
    pub fn json(
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        payload: &impl serde::Serialize,
    ) -> Result<Upcast, UpcastError> {
        Ok(Upcast::new(event_type, version, Json::encode(payload)?))
    }

    /// Adds a tag that the event has today although no field of it gives the tag. The type has to
    /// declare the key. A stored event without the tag lacks it, so it is found by the tag only
    /// after [retagging](crate::App::retag).
    ///
    /// Later upcasters keep the tag.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> Upcast {
        self.tags.push(tag);
        self
    }

    pub(crate) fn encoded(&self) -> EncodedEvent<'_> {
        let Upcast { event_type, version, payload, .. } = self;
        EncodedEvent { event_type, version: *version, payload }
    }
}

impl Upcasters {
    /// No upcasters.
    pub fn new() -> Upcasters {
        Upcasters::default()
    }

    /// 1 to 1 on JSON: changes the fields of an object, which makes the payload of the next
    /// version. A field that is not touched stays byte for byte.
    #[must_use]
    pub fn object(
        self,
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        change: impl Fn(&mut JsonObject<'_>) -> Result<(), UpcastError> + Send + Sync + 'static,
    ) -> Upcasters {
        self.payload(event_type, version, move |old| {
            let mut object = JsonObject::parse(old.payload)?;
            change(&mut object)?;
            Ok(object.to_string().into_bytes())
        })
    }

    /// 1 to 1 on bytes: gives the payload of the next version of the same type.
    #[must_use]
    pub fn payload(
        self,
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        change: impl Fn(&EncodedEvent<'_>) -> Result<Vec<u8>, UpcastError> + Send + Sync + 'static,
    ) -> Upcasters {
        let event_type = event_type.into();
        let name = event_type.clone();
        let step = move |old: &EncodedEvent<'_>| {
            let (payload, version) = (change(old)?, version.saturating_add(1));
            Ok(vec![Upcast::new(name.clone(), version, payload)])
        };
        self.step(event_type.clone(), version, [event_type], Arc::new(step))
    }

    /// Renames an event type, for all its versions.
    #[must_use]
    pub fn rename(
        mut self,
        old: impl Into<Cow<'static, str>>,
        new: impl Into<Cow<'static, str>>,
    ) -> Upcasters {
        let (old, new) = (old.into(), new.into());
        let of_type = self.by_type.entry(old.clone()).or_default();
        of_type.becomes.insert(new.clone());
        if let Some(other) = of_type.renamed.replace(new.clone()) {
            self.problems.push(format!("{old} is renamed to {other} and to {new}: keep one"));
        }
        self
    }

    /// 1 to many: gives events of any of the types in `into`.
    #[must_use]
    pub fn split<S>(
        self,
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        into: &[&'static str],
        split: S,
    ) -> Upcasters
    where
        S: Fn(&EncodedEvent<'_>) -> Result<Vec<Upcast>, UpcastError> + Send + Sync + 'static,
    {
        let into: Vec<_> = into.iter().map(|name| Cow::Borrowed(*name)).collect();
        let allowed = into.clone();
        let step = move |old: &EncodedEvent<'_>| {
            let made = split(old)?;
            match made.iter().find(|made| !allowed.contains(&made.event_type)) {
                None => Ok(made),
                Some(other) => Err(UpcastError::from(format!(
                    "it made {}, which is not among the types that it was declared with",
                    other.event_type
                ))),
            }
        };
        self.step(event_type.into(), version, into, Arc::new(step))
    }

    /// 1 to none: the event is dropped.
    #[must_use]
    pub fn drop(self, event_type: impl Into<Cow<'static, str>>, version: u32) -> Upcasters {
        self.step(event_type.into(), version, [], Arc::new(|_: &EncodedEvent<'_>| Ok(Vec::new())))
    }

    fn step(
        mut self,
        event_type: Cow<'static, str>,
        version: u32,
        becomes: impl IntoIterator<Item = Cow<'static, str>>,
        step: UpcastStep,
    ) -> Upcasters {
        let of_type = self.by_type.entry(event_type.clone()).or_default();
        of_type.becomes.extend(becomes);
        if of_type.by_version.insert(version, step).is_some() {
            self.problems.push(format!("{event_type} version {version} has two upcasters"));
        }
        self
    }

    /// Whether an upcaster changes this event.
    pub(crate) fn concern(&self, event: &EncodedEvent<'_>) -> bool {
        if self.by_type.is_empty() {
            return false;
        }
        self.by_type.get(event.event_type).is_some_and(|of_type| {
            of_type.renamed.is_some() || of_type.by_version.contains_key(&event.version)
        })
    }

    /// Whether an upcaster can change events of this type. A fold that asks for another type may
    /// get them as candidates.
    pub(crate) fn know(&self, event_type: &str) -> bool {
        !self.by_type.is_empty() && self.by_type.contains_key(event_type)
    }

    /// Whether this type has upcasters that keep the type, and none from the event's version or
    /// later. Then the event stays as it is by intent, and not because an upcaster is missing.
    pub(crate) fn led_to(&self, event: &EncodedEvent<'_>) -> bool {
        self.by_type.get(event.event_type).is_some_and(|of_type| {
            let last = of_type.by_version.keys().max();
            of_type.becomes.contains(event.event_type)
                && last.is_some_and(|last| *last < event.version)
        })
    }

    /// # Errors
    /// [`SchemaError::Declaration`] if no event of this type and version reaches a fold that asks
    /// for it, because upcasters turn all of them into other events first.
    pub(crate) fn check_current(&self, known: &EventType) -> Result<(), SchemaError> {
        let Some(of_type) = self.by_type.get(known.name) else { return Ok(()) };
        let (name, version) = (known.name, known.version);
        // A program may still know a type whose events are dropped.
        let is_changed = of_type.by_version.contains_key(&version) && !of_type.becomes.is_empty();
        let problem = match &of_type.renamed {
            _ if is_changed => format!(
                "{name} is at version {version}, and an upcaster makes something else of that \
                 version: give the type the version after it"
            ),
            Some(new) => {
                format!("{name} is renamed to {new}, and a fold asks for {name}: ask for {new}")
            }
            None => return Ok(()),
        };
        Err(SchemaError::Declaration { problem })
    }

    /// The declarations about these names as text: the versions that change, and their results. A
    /// state made under other declarations must not be continued.
    pub(crate) fn declared<'a>(
        &self,
        names: impl IntoIterator<Item = &'a Cow<'static, str>>,
    ) -> String {
        let declared = names.into_iter().map(|name| match self.by_type.get(name) {
            None => format!("{name:?}\n"),
            Some(OfType { renamed, by_version, becomes }) => {
                let versions: Vec<_> = by_version.keys().collect();
                format!("{name:?} {renamed:?} {versions:?} {becomes:?}\n")
            }
        });
        declared.collect()
    }

    /// Names in the log whose events are, or can become, events of one of these types.
    pub(crate) fn sources(
        &self,
        names: impl IntoIterator<Item = Cow<'static, str>>,
    ) -> Vec<Cow<'static, str>> {
        let mut found: Vec<Cow<'static, str>> = Vec::new();
        for name in names {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        let mut at = 0;
        while let Some(wanted) = found.get(at).cloned() {
            let mut olds: Vec<_> = self.by_type.iter().collect();
            olds.sort_by_key(|(old, _)| *old);
            for (old, of_type) in olds {
                if of_type.becomes.contains(&wanted) && !found.contains(old) {
                    found.push(old.clone());
                }
            }
            at += 1;
        }
        found
    }

    /// The names in the log whose events are, or can become, events of this type, with the
    /// versions that can.
    pub(crate) fn source_types(&self, name: &'static str) -> Vec<SourceType> {
        let sources = self.sources([Cow::Borrowed(name)]).into_iter().map(|source| {
            let of_type = self.by_type.get(&source).filter(|of_type| of_type.renamed.is_none());
            let last = of_type.and_then(|of_type| of_type.by_version.keys().max());
            let below = last.filter(|_| source != name).map(|last| last.saturating_add(1));
            SourceType { name: source.into_owned(), below }
        });
        sources.collect()
    }

    /// The events that this event is today: itself, others, or none.
    ///
    /// # Errors
    /// [`SchemaError::Upcast`] if an upcaster fails, [`SchemaError::Declaration`] if the upcasters
    /// lead in a circle.
    pub(crate) fn apply(&self, encoded: &EncodedEvent<'_>) -> Result<Vec<Upcast>, SchemaError> {
        let event_type = encoded.event_type.to_owned();
        let first = Upcast::new(event_type, encoded.version, encoded.payload);
        // Each entry has the number of steps that led to it. The last entry is taken first, so that
        // a circle reaches the limit whatever the number of events made on the way.
        let mut open = vec![(first, 0)];
        let mut done = Vec::new();
        while let Some((mut this, steps)) = open.pop() {
            if steps > STEPS {
                return Err(endless(encoded, &this));
            }
            let of_type = self.by_type.get(&this.event_type);
            let step = of_type.and_then(|of_type| of_type.by_version.get(&this.version));
            if let Some(step) = step {
                let made = caught(|| step(&this.encoded()))
                    .unwrap_or_else(|panic| Err(panic.into()))
                    .map_err(|error| failed(&this, &error))?;
                let made = made.into_iter().rev().map(|mut made| {
                    made.tags.extend(this.tags.iter().cloned());
                    (made, steps + 1)
                });
                open.extend(made);
            } else if let Some(new) = of_type.and_then(|of_type| of_type.renamed.clone()) {
                this.event_type = new;
                open.push((this, steps + 1));
            } else {
                done.push(this);
            }
        }
        Ok(done)
    }

    /// # Errors
    /// [`SchemaError::Declaration`] with the first contradiction.
    pub(crate) fn check(&self) -> Result<(), SchemaError> {
        let problem = self.problems.first().cloned();
        match problem.or_else(|| self.circle()) {
            None => Ok(()),
            Some(problem) => Err(SchemaError::Declaration { problem }),
        }
    }

    /// Finds a name whose renames lead back to itself.
    fn circle(&self) -> Option<String> {
        let renamed = |name: &Cow<'static, str>| self.by_type.get(name)?.renamed.as_ref();
        let is_in_circle = |name: &Cow<'static, str>| {
            let mut new = renamed(name);
            for _ in 0..self.by_type.len() {
                match new {
                    Some(found) if found == name => return true,
                    found => new = found.and_then(renamed),
                }
            }
            false
        };
        let name = self.by_type.keys().filter(|name| is_in_circle(name)).min()?;
        Some(format!("{name} is renamed back to itself: remove one of these renames"))
    }
}

fn endless(stored: &EncodedEvent<'_>, this: &Upcast) -> SchemaError {
    let problem = format!(
        "the upcasters of {} version {} lead in a circle, or through more than {STEPS} steps: they \
         came to {} version {}",
        stored.event_type, stored.version, this.event_type, this.version
    );
    SchemaError::Declaration { problem }
}

fn failed(event: &Upcast, error: &UpcastError) -> SchemaError {
    SchemaError::Upcast {
        event_type: event.event_type.clone().into_owned(),
        version: event.version,
        reason: error.to_string(),
    }
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut types: Vec<_> = self.by_type.keys().collect();
        types.sort();
        f.debug_struct("Upcasters").field("types", &types).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn encoded<'a>(event_type: &'a str, version: u32, payload: &'a [u8]) -> EncodedEvent<'a> {
        EncodedEvent { event_type, version, payload }
    }

    fn texts(upcasts: &[Upcast]) -> Vec<String> {
        let text = |up: &Upcast| {
            format!("{} {} {}", up.event_type, up.version, String::from_utf8_lossy(&up.payload))
        };
        upcasts.iter().map(text).collect()
    }

    fn add(field: &'static str) -> impl Fn(&mut JsonObject<'_>) -> Result<(), UpcastError> {
        move |object| object.insert(field, object.names().count())
    }

    #[test]
    fn upcasters_are_chained_over_versions_and_names() {
        let upcasters = Upcasters::new().object("old", 1, add("a")).rename("old", "new").object(
            "new",
            2,
            add("b"),
        );
        let today = upcasters.apply(&encoded("old", 1, b"{}")).unwrap();
        assert_eq!(texts(&today), [r#"new 3 {"a":0,"b":1}"#]);
        assert_eq!(upcasters.sources(["new".into()]), ["new", "old"]);
        assert_eq!(upcasters.sources(["old".into()]), ["old"]);
    }

    #[test]
    fn one_becomes_many_in_their_order_and_each_goes_on() {
        let upcasters = Upcasters::new()
            .split("both", 1, &["left", "right"], |_| {
                Ok(vec![Upcast::json("left", 1, &json!({}))?, Upcast::json("right", 1, &json!(1))?])
            })
            .object("left", 1, add("x"));
        let today = upcasters.apply(&encoded("both", 1, b"")).unwrap();
        assert_eq!(texts(&today), [r#"left 2 {"x":0}"#, "right 1 1"]);
        assert_eq!(upcasters.sources(["right".into()]), ["right", "both"]);
    }

    #[test]
    fn one_becomes_as_many_as_it_holds() {
        let import = Upcasters::new().split("import", 1, &["line"], |_| {
            (0..1_000).map(|at| Upcast::json("line", 1, &json!(at))).collect()
        });
        let today = import.apply(&encoded("import", 1, b"")).unwrap();
        assert_eq!(today.len(), 1_000);
        assert_eq!(texts(&today).last().unwrap(), "line 1 999");
    }

    #[test]
    fn a_chain_is_as_long_as_there_are_versions() {
        let chain = |versions| {
            (1..=versions)
                .fold(Upcasters::new(), |chain, version| chain.object("a", version, |_| Ok(())))
        };
        let today = chain(STEPS).apply(&encoded("a", 1, b"{}")).unwrap();
        assert_eq!(texts(&today), [format!("a {} {{}}", STEPS + 1)]);
        assert!(chain(STEPS + 1).apply(&encoded("a", 1, b"{}")).is_err());
    }

    #[test]
    fn one_becomes_none() {
        let upcasters = Upcasters::new().drop("heartbeat", 1);
        assert_eq!(upcasters.apply(&encoded("heartbeat", 1, b"")).unwrap(), []);
        assert_eq!(upcasters.apply(&encoded("heartbeat", 2, b"")).unwrap().len(), 1);
    }

    #[test]
    fn a_circle_is_an_error() {
        let names = Upcasters::new().rename("a", "b").rename("b", "c").rename("c", "a");
        assert!(names.check().unwrap_err().to_string().starts_with("a is renamed"));
        let itself = Upcasters::new().rename("z", "b").rename("b", "b");
        assert!(itself.check().unwrap_err().to_string().starts_with("b is renamed"));
        Upcasters::new().rename("a", "b").rename("b", "c").check().unwrap();
        // The number of events doubles with every step.
        let split = |_: &EncodedEvent<'_>| Ok(vec![Upcast::json("a", 1, &json!({}))?; 2]);
        let many = Upcasters::new().split("a", 1, &["a"], split);
        for upcasters in [names, many] {
            let error = upcasters.apply(&encoded("a", 1, b"")).unwrap_err();
            assert!(matches!(error, SchemaError::Declaration { .. }), "{error}");
            assert!(error.to_string().contains("of a version 1 lead in a circle"), "{error}");
        }
    }

    #[test]
    fn an_upcaster_that_panics_is_one_that_fails() {
        let upcasters = Upcasters::new().object("a", 1, |_| panic!("boom"));
        let error = upcasters.apply(&encoded("a", 1, b"{}")).unwrap_err();
        assert_eq!(error.to_string(), "the upcaster of a version 1 failed: it panicked: boom");
    }

    #[test]
    fn the_last_version_that_there_can_be_is_the_last() {
        let upcasters = Upcasters::new().object("a", u32::MAX, |_| Ok(()));
        assert!(upcasters.apply(&encoded("a", u32::MAX, b"{}")).is_err());
    }

    #[test]
    fn an_upcaster_that_makes_what_it_did_not_declare_fails() {
        let upcasters =
            Upcasters::new().split("a", 1, &["b"], |_| Ok(vec![Upcast::json("c", 1, &json!({}))?]));
        let error = upcasters.apply(&encoded("a", 1, b"")).unwrap_err();
        assert!(error.to_string().contains("made c"), "{error}");
    }

    #[test]
    fn two_upcasters_for_one_version_are_a_contradiction() {
        let twice = Upcasters::new().drop("a", 1).object("a", 1, add("x"));
        assert!(twice.check().unwrap_err().to_string().contains("a version 1"));
        let renamed = Upcasters::new().rename("a", "b").rename("a", "c");
        assert!(renamed.check().is_err());
    }
}
