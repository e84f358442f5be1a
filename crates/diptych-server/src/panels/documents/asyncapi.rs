//! The AsyncAPI document: the feeds of the application, for other services.

use diptych::catalogue::{FeedDescription, PublicEventDescription, PublishedLanguage};
use serde_json::{Map, Value, json};

/// The version of AsyncAPI.
const VERSION: &str = "3.1.0";
/// The name of the trait with the attributes of CloudEvents.
const TRAIT: &str = "cloud-event";
/// The name of the only server.
const SERVER: &str = "own";

/// The document of this language without the server, whose address only a request tells.
pub(crate) fn document(title: &str, version: &str, language: &PublishedLanguage) -> Value {
    let (mut channels, mut operations) = (Map::new(), Map::new());
    let mut messages = Map::new();
    for feed in &language.feeds {
        channels.insert(feed.name.clone(), channel(feed));
        operations.insert(format!("send-{}", feed.name), operation(feed));
        for event in &feed.events {
            messages.insert(message_name(feed, event), message(event));
        }
    }
    json!({
        "asyncapi": VERSION,
        "info": {
            "title": title,
            "version": version,
            "description": "The feeds of the application. Each message is a CloudEvent.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "messageTraits": { TRAIT: cloud_event() },
            "schemas": language.components.schemas,
        },
    })
}

/// The document with the server at this host, below this prefix. A server outside of the machine
/// has TLS, by itself or by the proxy in front of it.
pub(crate) fn served(document: &Value, host: &str, prefix: &str) -> Value {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
        Ok(_) => name,
        Err(_) => host,
    });
    let is_own_machine = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
    let protocol = if is_own_machine { "http" } else { "https" };
    let mut server = json!({ "host": host, "protocol": protocol });
    if let (Some(server), false) = (server.as_object_mut(), prefix.is_empty()) {
        server.insert("pathname".to_owned(), prefix.into());
    }
    let mut document = document.clone();
    if let Some(members) = document.as_object_mut() {
        members.insert("servers".to_owned(), json!({ SERVER: server }));
    }
    document
}

/// The type of an event in CloudEvents.
fn cloud_type(event: &PublicEventDescription) -> String {
    format!("{}.v{}", event.name, event.version)
}

/// The name of a message among those of all feeds.
fn message_name(feed: &FeedDescription, event: &PublicEventDescription) -> String {
    format!("{}.{}", feed.name, cloud_type(event))
}

fn channel(feed: &FeedDescription) -> Value {
    let message = |event: &PublicEventDescription| {
        let reference = format!("#/components/messages/{}", message_name(feed, event));
        (cloud_type(event), json!({ "$ref": reference }))
    };
    let messages: Map<String, Value> = feed.events.iter().map(message).collect();
    json!({
        "address": format!("/feeds/{}", feed.name),
        "title": format!("The feed {}", feed.name),
        "description": "The answer is a list of CloudEvents, in the order of the log \
                        (application/cloudevents-batch+json). With Accept: text/event-stream it is \
                        a stream of them. `lastEventId` or the header Last-Event-ID resumes.",
        "messages": messages,
    })
}

fn operation(feed: &FeedDescription) -> Value {
    let name = &feed.name;
    let message = |event: &PublicEventDescription| {
        let reference = format!("#/channels/{name}/messages/{}", cloud_type(event));
        json!({ "$ref": reference })
    };
    let text = |what: &str| json!({ "type": "string", "description": what });
    let number = |what: &str| json!({ "type": "integer", "minimum": 0, "description": what });
    let query = json!({
        "type": "object",
        "properties": {
            "lastEventId": text("Only events after the one with this id."),
            "after": text("Only events after this position of the log, or after its `end`."),
            "limit": number("Maximum number of events."),
            "timeout": number("How long to wait for an event, in milliseconds."),
        },
    });
    json!({
        "action": "send",
        "channel": { "$ref": format!("#/channels/{name}") },
        "title": format!("Publishes the feed {name}"),
        "messages": feed.events.iter().map(message).collect::<Vec<_>>(),
        "bindings": { "http": { "method": "GET", "query": query, "bindingVersion": "0.3.0" } },
    })
}

fn message(event: &PublicEventDescription) -> Value {
    let mut message = json!({
        "name": cloud_type(event),
        "title": format!("{}, version {}", event.name, event.version),
        "contentType": "application/json",
        "headers": { "type": "object", "properties": { "type": { "const": cloud_type(event) } } },
        "payload": event.schema.clone().unwrap_or(Value::Bool(true)),
        "traits": [{ "$ref": format!("#/components/messageTraits/{TRAIT}") }],
    });
    let description = event.description.clone();
    if let (Some(members), Some(description)) = (message.as_object_mut(), description) {
        members.insert("description".to_owned(), description.into());
    }
    message
}

/// The attributes of CloudEvents, as a trait of every message.
fn cloud_event() -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    let id = |what: &str| json!({ "type": "string", "format": "uuid", "description": what });
    let digits =
        |what: &str| json!({ "type": "string", "pattern": "^[0-9]{20}$", "description": what });
    json!({
        "description": "The attributes of CloudEvents 1.0. In a feed over HTTP they stand beside \
                        the payload, which is the member `data`.",
        "headers": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "sequence", "previous"],
            "properties": {
                "specversion": { "const": "1.0" },
                "id": text("The place of the event in its feed. Give it as `lastEventId`."),
                "source": text("The log, its epoch and the feed."),
                "type": text("The name and the version of the event."),
                "subject": text("The first tag of the event, such as `order:7`."),
                "time": {
                    "type": "string", "format": "date-time", "description": "When it occurred.",
                },
                "datacontenttype": { "const": "application/json" },
                "sequence": digits("The position in the log, in order within one source."),
                "previous": digits("The sequence of the event before it in the feed, or zeros."),
                "partitionkey": text("The key within which the order matters: the subject."),
                "eventid": id("The id of the event in the log."),
                "correlationid": id("The conversation that it belongs to."),
                "causationid": id("The id of its cause."),
                "hops": {
                    "type": "integer", "minimum": 0,
                    "description": "The number of feeds through which its cause came.",
                },
                "via": text("The last of these feeds."),
            },
        },
    })
}
