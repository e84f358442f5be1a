#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| diptych_fuzz::run_one("archive", data));
