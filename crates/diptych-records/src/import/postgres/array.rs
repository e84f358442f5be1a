//! The text format of arrays.

use serde_json::Value;

/// The most dimensions that a server allows.
const DEPTH: usize = 6;

/// The list of an array such as `{1,NULL,"a b"}`. The function has the values of elements.
///
/// # Errors
/// The reason for which JSON would lose the array.
pub(super) fn list(
    text: &str,
    element: &dyn Fn(&str) -> Result<Value, String>,
) -> Result<Value, String> {
    if text.starts_with('[') {
        return Err(format!(
            "{text} is an array whose first element is not number 1: cast it in a select"
        ));
    }
    let mut reader = ArrayReader { rest: text, element };
    let value = reader.list(0)?;
    match reader.rest {
        "" => Ok(value),
        rest => Err(format!("{rest} comes after the end of an array")),
    }
}

struct ArrayReader<'a> {
    rest: &'a str,
    element: &'a dyn Fn(&str) -> Result<Value, String>,
}

impl ArrayReader<'_> {
    fn takes(&mut self, next: char) -> bool {
        let rest = self.rest.strip_prefix(next);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH || !self.takes('{') {
            return Err(format!("{} is no array", self.rest));
        }
        let mut values = Vec::new();
        while !self.takes('}') {
            if !values.is_empty() && !self.takes(',') {
                return Err(format!("{} is no end of an array", self.rest));
            }
            values.push(match self.rest.chars().next() {
                Some('{') => self.list(depth + 1)?,
                Some('"') => self.quoted()?,
                _ => self.plain()?,
            });
        }
        Ok(Value::Array(values))
    }

    fn plain(&mut self) -> Result<Value, String> {
        let end = self.rest.find([',', '}']).ok_or("an array has no end")?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        match text {
            "NULL" => Ok(Value::Null),
            text => (self.element)(text),
        }
    }

    fn quoted(&mut self) -> Result<Value, String> {
        let (mut text, mut chars) = (String::new(), self.rest.char_indices().skip(1));
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return (self.element)(&text);
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                other => text.push(other),
            }
        }
        Err("an element of an array has no end".to_owned())
    }
}
