//! Files that the program contains: pages, scripts, pictures.

use axum::http::{HeaderMap, HeaderValue, header};

pub(crate) struct FileEntry {
    pub(crate) content_type: HeaderValue,
    pub(crate) bytes: &'static [u8],
    /// A weak tag, because the plain and the compressed file share it.
    pub(crate) tag: HeaderValue,
}

impl FileEntry {
    /// # Errors
    /// The reason why a response cannot have this file.
    pub(crate) fn new(content_type: &str, bytes: &'static [u8]) -> Result<FileEntry, String> {
        let content_type = HeaderValue::from_str(content_type)
            .map_err(|_| format!("{content_type:?} is no content type"))?;
        let digest = diptych::digest(bytes).map_err(|error| error.to_string())?.to_string();
        let short: String = digest.chars().take(16).collect();
        let tag = HeaderValue::from_str(&format!("W/\"{short}\"")).map_err(|e| e.to_string())?;
        Ok(FileEntry { content_type, bytes, tag })
    }

    /// Whether the client has the file already.
    pub(crate) fn is_cached(&self, headers: &HeaderMap) -> bool {
        let cached = headers.get_all(header::IF_NONE_MATCH).iter().flat_map(|value| {
            let value = value.to_str().unwrap_or_default();
            value.split(',').map(str::trim)
        });
        let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        let own = self.tag.to_str().map(opaque).unwrap_or_default();
        cached.into_iter().any(|cached| cached == "*" || opaque(cached) == own)
    }
}
