//! The decision about one row of an import, for records with and without their type.

use crate::{fact::Origin, row_json::Fields};

/// The effect on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Create,
    Change,
    Keep,
}

/// The decision about a row whose digest differs from that of its last import. `here` is the row
/// as it is, `after` as it would be, and `known` the origin that it has.
///
/// # Errors
/// The reason for which the row stays as it is.
pub(super) fn verdict(
    here: Option<&Fields>,
    known: Option<&Origin>,
    after: &Fields,
    there: &Origin,
) -> Result<Verdict, String> {
    match (here, known) {
        (None, None) => Ok(Verdict::Create),
        (None, Some(_)) => Err("was deleted here, and has changed there: delete it there, or \
                                create it here again"
            .to_owned()),
        (Some(here), None) if here == after => Ok(Verdict::Keep),
        (Some(_), None) => Err("exists here with other values and was not imported: make both \
                                equal, or skip the row"
            .to_owned()),
        (Some(_), Some(known)) if known.source != there.source || known.table != there.table => {
            Err(format!(
                "came from table {} of {} before: name that source and table, or skip the row",
                known.table, known.source
            ))
        }
        (Some(_), Some(_)) => Ok(Verdict::Change),
    }
}

/// A row with the values of another system in the fields of these columns. A column without a value
/// has none in the row, either.
pub(super) fn followed<'c>(
    row: Option<&Fields>,
    columns: impl IntoIterator<Item = &'c str>,
    there: &Fields,
) -> Fields {
    let mut row = row.cloned().unwrap_or_default();
    for column in columns {
        row.remove(column);
    }
    row.extend(there.iter().map(|(name, value)| (name.clone(), value.clone())));
    row
}
