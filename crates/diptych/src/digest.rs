pub(crate) fn request_digest(
    v: &impl serde::Serialize,
) -> Result<diptych_store::Digest, serde_json::Error> {
    Ok(diptych_store::Digest::of(&serde_json::to_vec(v)?))
}
