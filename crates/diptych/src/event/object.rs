use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _, Serialize, Serializer,
    de::{self, DeserializeOwned, MapAccess, Visitor},
    ser,
};
use serde_json::value::RawValue;

use super::{Codec, Json, UpcastError};

/// A JSON object that an [upcaster](super::Upcasters::object) changes. A field that is not touched
/// keeps its text, byte for byte: every digit of a number, and the space within a value.
///
/// ```
/// use diptych::event::JsonObject;
///
/// let mut price = JsonObject::parse(br#"{"net": 1.10, "gros": 1.31, "note": ""}"#)?;
/// price.rename("gros", "gross")?;
/// price.insert("currency", "EUR")?;
/// price.remove("note")?;
/// assert_eq!(price.to_string(), r#"{"net":1.10,"gross":1.31,"currency":"EUR"}"#);
/// # Ok::<_, diptych::event::UpcastError>(())
/// ```
///
/// Two fields with one name are kept as they are, too. Access to such a name is an error, because
/// it has two values.
#[derive(Clone, Default)]
pub struct JsonObject<'a> {
    fields: Vec<Field<'a>>,
}

#[derive(Clone)]
struct Field<'a> {
    /// The name as JSON, with its quotes.
    key: Cow<'a, str>,
    name: Cow<'a, str>,
    /// The value as JSON.
    value: Cow<'a, str>,
}

impl<'a> JsonObject<'a> {
    /// An object without fields.
    pub fn new() -> JsonObject<'a> {
        JsonObject::default()
    }

    /// Parses a JSON object.
    ///
    /// # Errors
    /// If it is not JSON, or not an object.
    pub fn parse(json: &'a [u8]) -> Result<JsonObject<'a>, UpcastError> {
        let mut json = serde_json::Deserializer::from_slice(json);
        let fields = json.deserialize_map(ObjectFields)?;
        json.end()?;
        Ok(JsonObject { fields })
    }

    /// The names of the fields, in the order in which they stand.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| &*field.name)
    }

    /// The value of a field, read as `T`, or `None` if there is no such field.
    ///
    /// # Errors
    /// If the value is not a `T`, or the name stands in the object twice.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, UpcastError> {
        let Some(json) = self.text(name)? else { return Ok(None) };
        match serde_json::from_str(json) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(format!("the field {name:?} cannot be read: {error}").into()),
        }
    }

    /// The JSON text of a field's value, or `None` if there is no such field.
    ///
    /// # Errors
    /// If the name stands in the object twice.
    pub fn text(&self, name: &str) -> Result<Option<&str>, UpcastError> {
        let field = self.at(name)?.and_then(|at| self.fields.get(at));
        Ok(field.map(|field| &*field.value))
    }

    /// Sets the value of a field, in place, or appends the field if it is missing.
    ///
    /// # Errors
    /// If the value cannot be written as JSON, or the name stands in the object twice.
    pub fn insert(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl Serialize,
    ) -> Result<(), UpcastError> {
        let value = String::from_utf8(Json::encode(&value)?)?;
        self.put(name.into(), value.into())
    }

    /// Removes a field and returns its value, read as `T`, or `None` if there is no such field.
    ///
    /// # Errors
    /// If the value is not a `T`, or the name stands in the object twice.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, UpcastError> {
        let value = self.get(name)?;
        self.remove(name)?;
        Ok(value)
    }

    /// Removes a field. Returns whether there was one.
    ///
    /// # Errors
    /// If the name stands in the object twice.
    pub fn remove(&mut self, name: &str) -> Result<bool, UpcastError> {
        let at = self.at(name)?;
        Ok(at.map(|at| self.fields.remove(at)).is_some())
    }

    /// Renames a field; its value and place stay. Returns whether there was such a field.
    ///
    /// # Errors
    /// If there is a field of the new name, or the old name stands in the object twice.
    pub fn rename(&mut self, old: &str, new: impl Into<Cow<'a, str>>) -> Result<bool, UpcastError> {
        let new = new.into();
        if old != new && self.at(&new)?.is_some() {
            return Err(format!("{old:?} cannot become {new:?}: there is such a field").into());
        }
        let Some(field) = self.at(old)?.and_then(|at| self.fields.get_mut(at)) else {
            return Ok(false);
        };
        (field.key, field.name) = (serde_json::to_string(&new)?.into(), new);
        Ok(true)
    }

    /// Changes the fields of an object inside a field. Returns whether there was such a field.
    ///
    /// # Errors
    /// If the value is not an object, the name stands in this object twice, or the change fails.
    pub fn object(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut JsonObject<'_>) -> Result<(), UpcastError>,
    ) -> Result<bool, UpcastError> {
        let Some(field) = self.at(name)?.and_then(|at| self.fields.get_mut(at)) else {
            return Ok(false);
        };
        let mut inner = JsonObject::parse(field.value.as_bytes())
            .map_err(|error| format!("the field {name:?} is not an object: {error}"))?;
        change(&mut inner)?;
        field.value = inner.to_string().into();
        Ok(true)
    }

    /// Copies the value of a field of another object, byte for byte. Returns whether there was such
    /// a field.
    ///
    /// # Errors
    /// If one of the names stands in its object twice.
    pub fn copy(
        &mut self,
        from: &JsonObject<'_>,
        old: &str,
        new: impl Into<Cow<'a, str>>,
    ) -> Result<bool, UpcastError> {
        let Some(value) = from.text(old)? else { return Ok(false) };
        self.put(new.into(), value.to_owned().into())?;
        Ok(true)
    }

    fn put(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) -> Result<(), UpcastError> {
        match self.at(&name)?.and_then(|at| self.fields.get_mut(at)) {
            Some(field) => field.value = value,
            None => {
                let key = serde_json::to_string(&name)?.into();
                self.fields.push(Field { key, name, value });
            }
        }
        Ok(())
    }

    /// The index of the field with this name.
    fn at(&self, name: &str) -> Result<Option<usize>, UpcastError> {
        let mut named = self.fields.iter().enumerate().filter(|(_, field)| field.name == name);
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(format!(
                "the field {name:?} stands in the object twice, with two values: change the \
                 payload as bytes, with `payload`"
            )
            .into()),
            (found, None) => Ok(found.map(|(at, _)| at)),
        }
    }
}

/// Writes the object as JSON.
impl fmt::Display for JsonObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Field { key, value, .. }) in self.fields.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            write!(f, "{before}{key}:{value}")?;
        }
        f.write_str(if self.fields.is_empty() { "{}" } else { "}" })
    }
}

impl fmt::Debug for JsonObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Keeps the text of its fields if the format is JSON text. Any other format sees a `RawValue`.
impl Serialize for JsonObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = RawValue::from_string(self.to_string()).map_err(ser::Error::custom)?;
        json.serialize(serializer)
    }
}

/// Reads the fields of an object and keeps their text.
struct ObjectFields;

impl<'de> Visitor<'de> for ObjectFields {
    type Value = Vec<Field<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Vec<Field<'de>>, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, value)) = entries.next_entry::<&RawValue, &RawValue>()? {
            let (key, value) = (key.get(), Cow::Borrowed(value.get()));
            let plain = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
            let name = match plain.filter(|name| !name.contains('\\')) {
                Some(name) => Cow::Borrowed(name),
                None => Cow::Owned(serde_json::from_str(key).map_err(de::Error::custom)?),
            };
            fields.push(Field { key: Cow::Borrowed(key), name, value });
        }
        Ok(fields)
    }
}
