//! The entries of a catalogue as data.

use serde_json::{Value, json};

use crate::theatre::{Seats, catalogue};

fn entry(listing: &Value, name: &str) -> Value {
    let entries = listing["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["name"] == name).unwrap().clone()
}

#[test]
fn a_catalogue_without_schemas_lists_names_types_and_relations() {
    let listing = serde_json::to_value(catalogue()).unwrap();
    let take = json!({
        "kind": "command", "name": "take-seat", "type": "catalogue::theatre::Take",
        "events": ["seat-taken", "seat-left"], "rejection_type": "catalogue::theatre::IsTaken",
        "body": null, "rejection": null,
    });
    assert_eq!(entry(&listing, "take-seat"), take);
    assert_eq!(entry(&listing, "leave-seat")["rejection_type"], Value::Null);
    let who = entry(&listing, "who-sits");
    assert_eq!(who["view"], std::any::type_name::<Seats>());
    assert_eq!((&who["is_live"], &who["kind"]), (&json!(true), &json!("query")));
    assert_eq!(entry(&listing, "pairs")["is_live"], false);
    let taken = json!({
        "kind": "event", "name": "seat-taken", "type": "catalogue::theatre::Seat",
        "version": 1, "tags": ["seat"], "codec": "json", "schema": null,
    });
    assert_eq!(entry(&listing, "seat-taken"), taken);
    let view = json!({
        "kind": "view", "name": "seats", "type": "catalogue::theatre::Seats",
        "events": ["seat-taken", "seat-left"],
    });
    assert_eq!(entry(&listing, "seats"), view);
    assert_eq!(listing["components"]["schemas"], json!({}));
}

#[test]
fn a_program_prints_its_catalogue_without_an_app() {
    let mut text = Vec::new();
    catalogue().write_json(&mut text).unwrap();
    assert!(text.ends_with(b"}\n"));
    let listing: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(listing, serde_json::to_value(catalogue()).unwrap());
}

#[cfg(feature = "schemas")]
mod with_schemas {
    use diptych::catalogue::{Catalogue, EntryDetail, EntryKind, WithSchemas, resolved};
    use diptych::{App, Memory};

    use super::*;
    use crate::theatre::{Leave, Seat, Take, WhoSits};

    fn described() -> Catalogue<WithSchemas> {
        Catalogue::with_schemas()
            .command::<Take>("take-seat")
            .infallible_command::<Leave>("leave-seat")
            .live_query::<WhoSits>("who-sits")
            .event::<Seat>()
            .view::<Seats>()
    }

    #[test]
    fn entries_have_schemas_and_the_words_of_their_doc_comments() {
        let listing = described().listing();
        let take = listing.entry(EntryKind::Command, "take-seat").unwrap();
        assert_eq!(take.description.as_deref(), Some("Takes a seat."));
        let EntryDetail::Command { body: Some(body), rejection: Some(rejection), .. } =
            &take.detail
        else {
            panic!("{take:?}")
        };
        let schemas = &listing.components.schemas;
        assert_eq!(body, &json!({ "$ref": "#/components/schemas/Take" }));
        assert_eq!(resolved(body, schemas)["required"], json!(["seat", "by"]));
        assert_eq!(resolved(rejection, schemas)["description"], "The reason to refuse a seat.");
        let leave = listing.entry(EntryKind::Command, "leave-seat").unwrap();
        assert!(matches!(leave.detail, EntryDetail::Command { rejection: None, .. }), "{leave:?}");
        let who = listing.entry(EntryKind::Query, "who-sits").unwrap();
        let EntryDetail::Query { arguments: Some(arguments), answer: Some(answer), .. } =
            &who.detail
        else {
            panic!("{who:?}")
        };
        assert_eq!(resolved(arguments, schemas)["description"], "The owner of a seat.");
        assert_eq!(answer, &json!({ "type": ["string", "null"] }));
        // The payload of a variant, without the name of the variant.
        let left = listing.entry(EntryKind::Event, "seat-left").unwrap();
        let EntryDetail::Event { schema: Some(schema), .. } = &left.detail else { panic!() };
        assert_eq!(schema["required"], json!(["seat"]));
        let view = listing.entry(EntryKind::View, "seats").unwrap();
        assert_eq!(view.description, None);
    }

    #[tokio::test]
    async fn catalogues_with_and_without_schemas_are_joined() {
        let names = Catalogue::new().command::<Take>("take-too");
        let app = App::over(Memory::new()).catalogue(described()).catalogue(names);
        let app = app.start().await.unwrap();
        let listing = app.catalogue().listing();
        let body = |name| match &listing.entry(EntryKind::Command, name).unwrap().detail {
            EntryDetail::Command { body, .. } => body.is_some(),
            _ => panic!(),
        };
        assert!(body("take-seat") && !body("take-too"));
    }
}
