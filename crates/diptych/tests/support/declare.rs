//! Declares events of tests in a line each. The macro writes a small part of the derive's code.

/// Declares an enum of events with JSON payloads: each has a name, a version and tag fields.
macro_rules! events {
    ($name:ident { $($variant:ident($type:ty) = $event:literal, $version:literal,
        [$($key:ident),*];)+ }) => {
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum $name {
            $($variant($type)),+
        }

        impl diptych::Event for $name {
            fn types() -> Vec<diptych::EventType> {
                vec![$(
                    diptych::EventType::new($event)
                        .version($version)
                        .tags(&[$(stringify!($key)),*])
                ),+]
            }

            fn encode(&self) -> Result<diptych::store::RawEvent, diptych::event::SchemaError> {
                match self {
                    $($name::$variant(event) => {
                        use diptych::event::{Codec, Json};
                        let payload = <Json as Codec>::encode(event)?;
                        let raw = diptych::store::RawEvent::new($event, payload).version($version);
                        $(let raw = raw.tag(diptych::Tag::new(stringify!($key), &event.$key));)*
                        Ok(raw)
                    })+
                }
            }

            fn decode(
                encoded: &diptych::event::EncodedEvent<'_>,
            ) -> Result<$name, diptych::event::SchemaError> {
                match encoded.event_type {
                    $($event => encoded.read::<diptych::event::Json, _>().map($name::$variant),)+
                    _ => Err(encoded.unknown::<$name>()),
                }
            }
        }
    };
}

pub(crate) use events;
