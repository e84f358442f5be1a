//! The forms of requests and answers.

use diptych::{
    catalogue::SCHEMAS,
    store::{
        AppendCondition, Batch, Filter, FilterItem, InvalidRequest, Limits, Position, Tag, Tracking,
    },
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    door::{code::Code, problem::Problem, request::from_json, store_problems::of_invalid},
    hinge::http::event::{EventAnswer, NewEvent},
    panels::entries::schema::refuse_lists,
};

/// Makes schemas that stand in one document.
pub(crate) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12();
    settings.with(|settings| settings.definitions_path = SCHEMAS.into()).into_generator()
}

/// The schemas of requests. JSON with a list in place of an object is refused by them, because the
/// types would read the list as their fields in order.
pub(crate) struct RequestForms {
    append: Value,
    read: Value,
    definitions: Map<String, Value>,
}

impl RequestForms {
    pub(crate) fn new() -> RequestForms {
        let mut schemas = generator();
        let append = schemas.subschema_for::<AppendBody>().to_value();
        let read = schemas.subschema_for::<ReadBody>().to_value();
        RequestForms { append, read, definitions: schemas.take_definitions(true) }
    }

    /// The commit of a request.
    pub(crate) fn append(&self, json: &[u8]) -> Result<AppendBody, Problem> {
        refuse_lists("the commit", &self.append, &self.definitions, json)?;
        from_json("the commit", json)
    }

    /// The read of a request.
    pub(crate) fn read(&self, json: &[u8]) -> Result<ReadBody, Problem> {
        refuse_lists("the read", &self.read, &self.definitions, json)?;
        from_json("the read", json)
    }
}

/// Events of any of the types and with all of the tags. Without types, all types match.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryItem {
    /// Names of types, of which an event has one.
    #[serde(default)]
    pub(crate) types: Vec<String>,
    /// Tags as `key:value`. An event has every tag.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

/// Events that match any item. Without items it matches no event.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    pub(crate) items: Vec<QueryItem>,
}

/// Refuses the commit if an event after the position matches.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ConditionBody {
    pub(crate) fail_if_events_match: EventQuery,
    /// Only events after this position count. 0 if it is missing, so that all count.
    #[serde(default)]
    pub(crate) after: u64,
}

/// How far another log was imported. It is stored with the commit, and refused unless it is greater
/// than the one before.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrackingBody {
    /// The name of the other log.
    source: String,
    /// The position in it.
    position: u64,
}

impl TrackingBody {
    pub(crate) fn into_tracking(self) -> Tracking {
        Tracking::new(self.source, self.position)
    }
}

/// One commit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendBody {
    /// The events, which are all appended or none.
    pub(crate) events: Vec<NewEvent>,
    /// Refuses the commit if something relevant has happened.
    pub(crate) condition: Option<ConditionBody>,
    /// The idempotency key. A request that is sent again with it is executed once.
    pub(crate) key: Option<String>,
    /// How far another log was imported.
    pub(crate) tracking: Option<TrackingBody>,
}

/// A read of events.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadBody {
    /// Events that match any of these. Without it all events match.
    pub(crate) items: Option<Vec<QueryItem>>,
    /// Only events after this position.
    #[serde(default)]
    pub(crate) after: u64,
    /// Only events up to this position. Without it, those up to the head.
    pub(crate) upto: Option<u64>,
    /// The last events first.
    #[serde(default)]
    pub(crate) backwards: bool,
    /// The greatest number of events.
    pub(crate) limit: Option<u64>,
}

/// A read of events in an address. `type` and `tag` are one item, and `items` is JSON.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadParameters {
    /// Names of types, of which an event has one.
    #[serde(default, rename = "type")]
    pub(crate) types: Vec<String>,
    /// Tags as `key:value`. An event has every tag.
    #[serde(default, rename = "tag")]
    pub(crate) tags: Vec<String>,
    /// Several items as JSON, as in `[{"types":["paid"],"tags":["account:1"]}]`.
    pub(crate) items: Option<String>,
    /// Only events after this position.
    #[serde(default)]
    pub(crate) after: u64,
    /// Only events up to this position. Without it, those up to the head.
    pub(crate) upto: Option<u64>,
    /// The last events first: `true` or `false`.
    #[serde(default)]
    pub(crate) backwards: bool,
    /// The greatest number of events.
    pub(crate) limit: Option<u64>,
}

/// A committed append.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppendAnswer {
    /// The position of the first event.
    pub(crate) first: u64,
    /// The position of the last event.
    pub(crate) last: u64,
    /// The instant at which the log recorded the events.
    pub(crate) recorded_at: String,
    /// Whether an earlier request with this key made the commit.
    pub(crate) repeated: bool,
}

/// Some events, and where to go on.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ReadAnswer<'a> {
    pub(crate) events: Vec<EventAnswer<'a>>,
    /// The position up to which the log was considered. The next read begins after it, or ends
    /// before it if it reads backwards.
    pub(crate) upto: u64,
    /// The last position of the log.
    pub(crate) head: u64,
}

impl<'a> ReadAnswer<'a> {
    pub(crate) fn new(batch: &'a Batch, head: Position) -> ReadAnswer<'a> {
        let events = batch.iter().map(|event| EventAnswer::new(&event)).collect();
        ReadAnswer { events, upto: batch.upto().get(), head: head.get() }
    }
}

/// A log, its history, its end and its limits.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LogAnswer {
    pub(crate) name: String,
    /// The id of the log.
    pub(crate) id: String,
    /// The history of the log: a restored log has another one.
    pub(crate) epoch: String,
    /// The last position of the log.
    pub(crate) head: u64,
    /// Why the log takes no commits for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<String>,
    pub(crate) limits: LimitsAnswer,
    /// The version of the server's program.
    pub(crate) version: &'static str,
}

/// The limits of a log. The body of a request has a limit of its own.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LimitsAnswer {
    event_bytes: u64,
    type_bytes: u64,
    tag_bytes: u64,
    tags_per_event: u64,
    metadata_bytes: u64,
    commit_events: u64,
    commit_bytes: u64,
    key_bytes: u64,
    source_bytes: u64,
    filter_items: u64,
    filter_terms: u64,
    batch_events: u64,
    batch_bytes: u64,
    /// Bytes of the body of a request.
    body_bytes: u64,
}

impl LimitsAnswer {
    pub(crate) fn new(limits: &Limits, body_bytes: usize) -> LimitsAnswer {
        let number = |limit: usize| limit as u64;
        LimitsAnswer {
            event_bytes: number(limits.event_bytes),
            type_bytes: number(limits.type_bytes),
            tag_bytes: number(limits.tag_bytes),
            tags_per_event: number(limits.tags_per_event),
            metadata_bytes: number(limits.metadata_bytes),
            commit_events: number(limits.commit_events),
            commit_bytes: number(limits.commit_bytes),
            key_bytes: number(limits.key_bytes),
            source_bytes: number(limits.source_bytes),
            filter_items: number(limits.filter_items),
            filter_terms: number(limits.filter_terms),
            batch_events: number(limits.batch_events),
            batch_bytes: number(limits.batch_bytes),
            body_bytes: number(body_bytes),
        }
    }
}

/// The last position of a matching event.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LastAnswer {
    /// Missing if no event matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
    pub(crate) head: u64,
}

/// The number of events with a tag.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CountAnswer {
    pub(crate) count: u64,
    pub(crate) head: u64,
}

/// The names of all types in the log.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TypesAnswer {
    pub(crate) types: Vec<String>,
    pub(crate) head: u64,
}

/// The commit of an idempotency key.
#[derive(Serialize, JsonSchema)]
pub(crate) struct KeyAnswer {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// How far another log was imported.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TrackingAnswer {
    pub(crate) source: String,
    pub(crate) position: u64,
    /// The id of the other log, if its importer named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// The history of the other log, if its importer named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<String>,
}

/// The parameters of `last`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastParameters {
    /// Names of types, of which an event has one.
    #[serde(default, rename = "type")]
    pub(crate) types: Vec<String>,
    /// Tags as `key:value`. An event has every tag.
    #[serde(default, rename = "tag")]
    pub(crate) tags: Vec<String>,
    /// Several items as JSON.
    pub(crate) items: Option<String>,
    /// Only events up to this position.
    pub(crate) upto: Option<u64>,
}

/// The parameters of `count`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountParameters {
    /// The tag as `key:value`.
    pub(crate) tag: String,
    /// Only events up to this position.
    pub(crate) upto: Option<u64>,
}

/// The filter of these items. `place` names their list in problems.
pub(crate) fn filter_of(
    items: Vec<QueryItem>,
    place: &str,
    limits: &Limits,
) -> Result<Filter, Problem> {
    let (count, allowed) = (items.len(), limits.filter_items);
    if count > allowed {
        let what = "items in filters";
        let error = InvalidRequest::too_many(what, count, allowed, "filter_items");
        return Err(of_invalid(&error));
    }
    let item = |(index, item): (usize, QueryItem)| {
        let filter = item.types.into_iter().fold(FilterItem::everything(), FilterItem::or_type);
        item.tags.iter().enumerate().try_fold(filter, |filter, (at, tag)| {
            let tag = Tag::parse(tag).map_err(|error| {
                let field = format!("{place}[{index}].tags[{at}]");
                Problem::bad(Code::Malformed, format!("{field}: {error}")).and("field", field)
            })?;
            Ok::<_, Problem>(filter.and_tag(tag))
        })
    };
    let items = items.into_iter().enumerate().map(item);
    let filter: Filter = items.collect::<Result<Vec<_>, _>>()?.into_iter().collect();
    filter.check(limits).map_err(|error| of_invalid(&error))?;
    Ok(filter)
}

impl ConditionBody {
    pub(crate) fn into_condition(self, limits: &Limits) -> Result<AppendCondition, Problem> {
        let place = "condition.failIfEventsMatch.items";
        let fail_if = filter_of(self.fail_if_events_match.items, place, limits)?;
        Ok(AppendCondition { fail_if, after: Position::new(self.after) })
    }
}
