//! Texts of users and of other systems, before an event keeps them.

/// Longest text of an outside or of a panic that an event keeps, in bytes.
const MOST_TEXT: usize = 4_000;

/// A text that fits into an event beside other fields.
pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > MOST_TEXT {
        let bytes = text.len();
        let end = (0..=MOST_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(&format!(" ... ({bytes} bytes)"));
    }
    text
}
