//! The schema lock, which is recorded once and compared from then on.

use std::fs;

use crate::programs::{fail, program, run};

#[test]
fn a_recorded_schema_is_kept_and_another_one_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let check = || {
        let mut command = program("schemas");
        command.env_remove("DIPTYCH_SCHEMAS");
        command
    };
    let words = fail(&mut check(), folder.path());
    assert!(words.contains("DIPTYCH_SCHEMAS=record"), "{words}");

    run(check().env("DIPTYCH_SCHEMAS", "record"), folder.path());
    let file = folder.path().join("schemas.json");
    let recorded = fs::read_to_string(&file).unwrap();
    run(&mut check(), folder.path());
    assert_eq!(fs::read_to_string(&file).unwrap(), recorded);

    // An earlier release had another field.
    fs::write(&file, recorded.replace("voucher\"", "coupon\"")).unwrap();
    let words = fail(&mut check(), folder.path());
    assert!(words.contains("coupon"), "{words}");
}
