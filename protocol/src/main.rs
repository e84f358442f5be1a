//! Generates `crates/diptych-remote/src/generated.in` from the definition of the protocol.
//! `--check` only compares.

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use prost_build::Config;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/diptych-remote");
    let out = env::temp_dir().join(format!("diptych-protocol-{}", std::process::id()));
    fs::create_dir_all(&out)?;
    let definition = protox::compile(["diptych/v1/log.proto"], [package.join("proto")])?;
    let mut config = Config::new();
    config.bytes([".diptych.v1.EncodedEvents.bytes"]).out_dir(&out);
    tonic_prost_build::configure()
        .out_dir(&out)
        .client_mod_attribute("diptych.v1", "#[cfg(feature = \"client\")]")
        .codec_path("crate::wire::CheckedCodec")
        .build_transport(false)
        .disable_comments(["."])
        .compile_fds_with_config(definition, config)?;
    let generated = fs::read_to_string(out.join("diptych.v1.rs"))?;
    fs::remove_dir_all(&out)?;
    let committed = package.join("src/generated.in");
    if !env::args().any(|argument| argument == "--check") {
        fs::write(&committed, generated)?;
        return Ok(ExitCode::SUCCESS);
    }
    if fs::read_to_string(&committed)? == generated {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "the generated code differs from the definition of the protocol: run \
         `cargo run --manifest-path protocol/Cargo.toml`"
    );
    Ok(ExitCode::FAILURE)
}
