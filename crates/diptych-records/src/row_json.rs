//! Rows as JSON objects: their fields, patches, and differences.

use diptych::Invalid;
use serde_json::{Map, Value};

use crate::record::{Record, field};

/// The fields of a row by name.
pub type Fields = Map<String, Value>;

/// The fields of this row.
///
/// # Errors
/// [`Invalid`] if the row is no JSON object.
pub(crate) fn fields<R: Record>(row: &R) -> Result<Fields, Invalid> {
    match serde_json::to_value(row) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Invalid::new(R::NAME, "is no object in JSON: make it a struct with fields")),
        Err(error) => Err(Invalid::new(R::NAME, format!("cannot be written as JSON: {error}"))),
    }
}

/// The row with these fields.
///
/// # Errors
/// [`Invalid`] with the field that does not fit.
pub(crate) fn row<R: Record>(fields: Fields) -> Result<R, Invalid> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { R::NAME.to_owned() } else { path };
        Invalid::new(place, format!("does not fit: {}", error.inner()))
    })
}

/// The fields of a row that is about to be stored.
///
/// # Errors
/// [`Invalid`] if the row does not make sense, or would be read back as another one.
pub(crate) fn checked_fields<R: Record>(of: &R) -> Result<Fields, Invalid> {
    of.validate()?;
    let fields = fields(of)?;
    for name in fields.keys() {
        check_name::<R>(name)?;
    }
    if row::<R>(fields.clone())? != *of {
        let problem = "is another row when its JSON is read again, as with a float that is no \
                       number: change the value, or the way it is serialised";
        return Err(Invalid::new(R::NAME, problem));
    }
    Ok(fields)
}

/// # Errors
/// [`Invalid`] if the record has no field of this name.
pub(crate) fn check_name<R: Record>(name: &str) -> Result<(), Invalid> {
    if field::<R>(name).is_some() {
        return Ok(());
    }
    let known: Vec<_> = R::FIELDS.iter().map(|field| field.name).collect();
    let problem = format!("is no field of {}: the fields are {}", R::NAME, known.join(", "));
    Err(Invalid::new(name, problem))
}

/// Applies a JSON merge patch (RFC 7396).
pub(crate) fn merge(into: &mut Fields, patch: &Fields) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(into.remove(name)),
            Value::Object(patch) => {
                let inner = into.entry(name.clone()).or_insert(Value::Null);
                if !inner.is_object() {
                    *inner = Value::Object(Map::new());
                }
                if let Value::Object(inner) = inner {
                    merge(inner, patch);
                }
            }
            value => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

/// The fields that differ, with their values before and after. A field that one side lacks is in
/// the other only.
pub(crate) fn difference(before: &Fields, after: &Fields) -> (Fields, Fields) {
    let differs =
        |(name, value): &(&String, &Value), other: &Fields| other.get(*name) != Some(value);
    let picked = |from: &Fields, other: &Fields| {
        let own = from.iter().filter(|field| differs(field, other));
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    (picked(before, after), picked(after, before))
}

/// Puts the fields of `new` in place of those of `old`.
pub(crate) fn exchange(fields: &mut Fields, old: &Fields, new: &Fields) {
    for name in old.keys() {
        fields.remove(name);
    }
    fields.extend(new.iter().map(|(name, value)| (name.clone(), value.clone())));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Fields {
        let Value::Object(fields) = value else { panic!("no object") };
        fields
    }

    #[test]
    fn a_patch_follows_the_examples_of_its_specification() {
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ];
        for (from, patch, to) in cases {
            let mut merged = object(from);
            merge(&mut merged, &object(patch));
            assert_eq!(Value::Object(merged), to);
        }
    }

    #[test]
    fn a_difference_leads_from_one_row_to_the_other_and_back() {
        let before = object(json!({"a":1,"b":[1],"c":null,"d":"x"}));
        let after = object(json!({"a":1,"b":[2],"c":0,"e":"y"}));
        let (old, new) = difference(&before, &after);
        assert_eq!(Value::Object(old.clone()), json!({"b":[1],"c":null,"d":"x"}));
        let mut there = before.clone();
        exchange(&mut there, &old, &new);
        assert_eq!(there, after);
        exchange(&mut there, &new, &old);
        assert_eq!(there, before);
    }
}
