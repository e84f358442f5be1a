//! The file with settings.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use crate::exit::Failure;

/// The form of a setting's value in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueForm {
    Text,
    Number,
    Flag,
    List,
}

/// All settings, by the names that they have as flags and in the file.
pub(super) const SETTINGS: [(&str, ValueForm); 13] = [
    ("data", ValueForm::Text),
    ("wait-seconds", ValueForm::Number),
    ("listen", ValueForm::Text),
    ("certificate", ValueForm::Text),
    ("private-key", ValueForm::Text),
    ("tokens", ValueForm::Text),
    ("host", ValueForm::List),
    ("open-to-all", ValueForm::Flag),
    ("accept-future-time", ValueForm::Flag),
    ("accept-new-place", ValueForm::Flag),
    ("receive-copy", ValueForm::Flag),
    ("log-format", ValueForm::Text),
    ("log-level", ValueForm::Text),
];

/// The largest file that is read.
const FILE_BYTES: u64 = 1 << 20;
/// How alike a known key has to be, so that an error names it.
const ALIKE: f64 = 0.7;

/// The entries of a file. There are none without a file.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    path: PathBuf,
    entries: BTreeMap<&'static str, FileEntry>,
}

/// The value of one key, as texts.
#[derive(Debug)]
pub(super) struct FileEntry {
    pub(super) line: usize,
    pub(super) texts: Vec<String>,
}

impl ConfigFile {
    pub(super) fn read(path: PathBuf) -> Result<ConfigFile, Failure> {
        let cannot = |reason: String| {
            Failure::input(format!("cannot read the settings in {}: {reason}", path.display()))
        };
        let length = fs::metadata(&path).map_err(|error| cannot(error.to_string()))?.len();
        if length > FILE_BYTES {
            return Err(cannot(format!(
                "it has {length} bytes, and at most {FILE_BYTES} are read"
            )));
        }
        let text = fs::read_to_string(&path).map_err(|error| cannot(error.to_string()))?;
        ConfigFile::parse(path, &text)
    }

    pub(super) fn parse(path: PathBuf, text: &str) -> Result<ConfigFile, Failure> {
        let mut file = ConfigFile { path, entries: BTreeMap::new() };
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, &span));
            Failure::input(format!("{}: {}", file.place(line), error.message()))
        })?;
        for (key, value) in table.get_ref() {
            let line = line_of(text, &key.span());
            let wrong = |detail: String| Failure::input(format!("{}: {detail}", file.place(line)));
            let name = key.get_ref();
            let known = SETTINGS.iter().find(|(known, _)| known == name);
            let (known, form) = known.ok_or_else(|| wrong(unknown(name)))?;
            let texts = texts(value.get_ref(), *form).ok_or_else(|| {
                let form = match form {
                    ValueForm::Text => "a text in quotes",
                    ValueForm::Number => "a whole number",
                    ValueForm::Flag => "true or false",
                    ValueForm::List => "a list of texts, such as [\"a\", \"b\"]",
                };
                wrong(format!("{name} is {form}"))
            })?;
            file.entries.insert(known, FileEntry { line, texts });
        }
        Ok(file)
    }

    pub(super) fn entry(&self, name: &str) -> Option<&FileEntry> {
        self.entries.get(name)
    }

    /// A line of the file, as messages name it.
    pub(super) fn place(&self, line: usize) -> String {
        format!("{}, line {line}", self.path.display())
    }

    /// The folder of the file.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.path.parent()
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}

/// The texts of a value, if it has this form.
fn texts(value: &DeValue<'_>, form: ValueForm) -> Option<Vec<String>> {
    let text = match (value, form) {
        (DeValue::String(text), ValueForm::Text | ValueForm::List) => text.to_string(),
        (DeValue::Integer(number), ValueForm::Number) => number.to_string(),
        (DeValue::Boolean(flag), ValueForm::Flag) => flag.to_string(),
        (DeValue::Array(values), ValueForm::List) => {
            let text = |value: &DeValue<'_>| match value {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            };
            return values.iter().map(|value| text(value.get_ref())).collect();
        }
        _ => return None,
    };
    Some(vec![text])
}

/// The problem of a key that no setting has.
fn unknown(name: &str) -> String {
    let alike = |known: &str| strsim::jaro_winkler(&name.replace('_', "-"), known);
    let nearest = SETTINGS.iter().map(|(known, _)| *known);
    let nearest = nearest.max_by(|one, other| alike(one).total_cmp(&alike(other)));
    match nearest.filter(|known| alike(known) >= ALIKE) {
        Some(known) => format!("there is no setting {name:?}: {known:?} may be meant"),
        None => {
            let known: Vec<&str> = SETTINGS.iter().map(|(known, _)| *known).collect();
            format!("there is no setting {name:?}; there are: {}", known.join(", "))
        }
    }
}
