use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error,
    fmt,
    sync::Arc,
};

use foldhash::fast::RandomState;
use serde_json::{Map, Value};

use super::{Encoded, SchemaError};

/// Steps through which one event may go, so that a mistake in the declarations is an error and
/// not an endless loop.
const STEPS: usize = 64;

/// What an upcaster may fail with.
pub type UpcastError = Box<dyn Error + Send + Sync + 'static>;

type Step = Arc<dyn Fn(&Encoded<'_>) -> Result<Vec<Upcast>, UpcastError> + Send + Sync>;

/// How events that were written by older programs become events that this one knows.
///
/// Each upcaster takes one type at one version, and gives one event, several, or none; they are
/// chained until no upcaster takes the result. The log stays as it is. Wherever events are read,
/// by decisions, views or projections, the same upcasters are applied, and whoever asks for a
/// type is also given what can become that type.
///
/// ```
/// use diptych::{Upcast, Upcasters};
/// use serde_json::json;
///
/// let upcasters = Upcasters::new()
///     // 1 to 1: version 1 had no currency.
///     .object("account-opened", 1, |payload| {
///         payload.insert("currency".to_owned(), json!("EUR"));
///         Ok(())
///     })
///     // The same event under a better name.
///     .rename("customer-relocated", "customer-moved")
///     // 1 to many.
///     .split("customer-changed", 1, &["customer-renamed", "customer-moved"], |old| {
///         let old: serde_json::Value = serde_json::from_slice(old.payload)?;
///         Ok(vec![
///             Upcast::json("customer-renamed", 1, &json!({ "name": old["name"] }))?,
///             Upcast::json("customer-moved", 1, &json!({ "to": old["address"] }))?,
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
    by_version: BTreeMap<u32, Step>,
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
}

impl Upcast {
    /// An event with this JSON as its payload.
    ///
    /// # Errors
    /// If the value cannot be written as JSON.
    pub fn json(
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        payload: &impl serde::Serialize,
    ) -> Result<Upcast, UpcastError> {
        let payload = serde_json::to_vec(payload)?;
        Ok(Upcast { event_type: event_type.into(), version, payload })
    }

    pub(crate) fn encoded(&self) -> Encoded<'_> {
        let Upcast { event_type, version, payload } = self;
        Encoded { event_type, version: *version, payload }
    }
}

impl Upcasters {
    /// None.
    pub fn new() -> Upcasters {
        Upcasters::default()
    }

    /// 1 to 1 on JSON: changes the fields of an object, which is then of the next version.
    #[must_use]
    pub fn object(
        self,
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        change: impl Fn(&mut Map<String, Value>) -> Result<(), UpcastError> + Send + Sync + 'static,
    ) -> Upcasters {
        self.payload(event_type, version, move |old| {
            let mut object = serde_json::from_slice(old.payload)?;
            change(&mut object)?;
            Ok(serde_json::to_vec(&object)?)
        })
    }

    /// 1 to 1 on bytes: gives the payload of the next version of the same type.
    #[must_use]
    pub fn payload(
        self,
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        change: impl Fn(&Encoded<'_>) -> Result<Vec<u8>, UpcastError> + Send + Sync + 'static,
    ) -> Upcasters {
        let event_type = event_type.into();
        let name = event_type.clone();
        let step = move |old: &Encoded<'_>| {
            let payload = change(old)?;
            Ok(vec![Upcast { event_type: name.clone(), version: version + 1, payload }])
        };
        self.step(event_type.clone(), version, [event_type], Arc::new(step))
    }

    /// The same event under another name, whatever its version.
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
    pub fn split(
        self,
        event_type: impl Into<Cow<'static, str>>,
        version: u32,
        into: &[&'static str],
        split: impl Fn(&Encoded<'_>) -> Result<Vec<Upcast>, UpcastError> + Send + Sync + 'static,
    ) -> Upcasters {
        let into: Vec<_> = into.iter().map(|name| Cow::Borrowed(*name)).collect();
        let allowed = into.clone();
        let step = move |old: &Encoded<'_>| {
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

    /// 1 to none: the event says nothing any more.
    #[must_use]
    pub fn drop(self, event_type: impl Into<Cow<'static, str>>, version: u32) -> Upcasters {
        self.step(event_type.into(), version, [], Arc::new(|_: &Encoded<'_>| Ok(Vec::new())))
    }

    fn step(
        mut self,
        event_type: Cow<'static, str>,
        version: u32,
        becomes: impl IntoIterator<Item = Cow<'static, str>>,
        step: Step,
    ) -> Upcasters {
        let of_type = self.by_type.entry(event_type.clone()).or_default();
        of_type.becomes.extend(becomes);
        if of_type.by_version.insert(version, step).is_some() {
            self.problems.push(format!("{event_type} version {version} has two upcasters"));
        }
        self
    }

    /// Whether such an event is changed.
    pub(crate) fn concern(&self, event: &Encoded<'_>) -> bool {
        if self.by_type.is_empty() {
            return false;
        }
        self.by_type.get(event.event_type).is_some_and(|of_type| {
            of_type.renamed.is_some() || of_type.by_version.contains_key(&event.version)
        })
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

    /// What the event is today: itself, others, or nothing.
    ///
    /// # Errors
    /// [`SchemaError::Upcast`] if an upcaster fails, [`SchemaError::Declaration`] if they lead
    /// in a circle.
    pub(crate) fn apply(&self, encoded: &Encoded<'_>) -> Result<Vec<Upcast>, SchemaError> {
        let first = Upcast {
            event_type: Cow::Owned(encoded.event_type.to_owned()),
            version: encoded.version,
            payload: encoded.payload.to_vec(),
        };
        let mut open = vec![first];
        let mut done = Vec::new();
        for _ in 0..STEPS {
            let Some(mut this) = open.pop() else { return Ok(done) };
            let of_type = self.by_type.get(&this.event_type);
            let step = of_type.and_then(|of_type| of_type.by_version.get(&this.version));
            if let Some(step) = step {
                let made = step(&this.encoded()).map_err(|error| failed(&this, &error))?;
                // The last one made is looked at first, so they are kept in reverse.
                open.extend(made.into_iter().rev());
            } else if let Some(new) = of_type.and_then(|of_type| of_type.renamed.clone()) {
                this.event_type = new;
                open.push(this);
            } else {
                done.push(this);
            }
        }
        let problem = format!(
            "the upcasters of {} version {} lead in a circle, or to more than {STEPS} steps",
            encoded.event_type, encoded.version
        );
        Err(SchemaError::Declaration { problem })
    }

    /// # Errors
    /// [`SchemaError::Declaration`] with the first contradiction.
    pub(crate) fn check(&self) -> Result<(), SchemaError> {
        match self.problems.first() {
            None => Ok(()),
            Some(problem) => Err(SchemaError::Declaration { problem: problem.clone() }),
        }
    }
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

    fn encoded<'a>(event_type: &'a str, version: u32, payload: &'a [u8]) -> Encoded<'a> {
        Encoded { event_type, version, payload }
    }

    fn texts(upcasts: &[Upcast]) -> Vec<String> {
        let text = |up: &Upcast| {
            format!("{} {} {}", up.event_type, up.version, String::from_utf8_lossy(&up.payload))
        };
        upcasts.iter().map(text).collect()
    }

    fn add(field: &'static str) -> impl Fn(&mut Map<String, Value>) -> Result<(), UpcastError> {
        move |object| {
            object.insert(field.to_owned(), json!(object.len()));
            Ok(())
        }
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
    fn one_becomes_none() {
        let upcasters = Upcasters::new().drop("heartbeat", 1);
        assert_eq!(upcasters.apply(&encoded("heartbeat", 1, b"")).unwrap(), []);
        assert_eq!(upcasters.apply(&encoded("heartbeat", 2, b"")).unwrap().len(), 1);
    }

    #[test]
    fn a_circle_is_an_error() {
        let upcasters = Upcasters::new().rename("a", "b").rename("b", "a");
        let error = upcasters.apply(&encoded("a", 1, b"")).unwrap_err();
        assert!(matches!(error, SchemaError::Declaration { .. }), "{error}");
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
