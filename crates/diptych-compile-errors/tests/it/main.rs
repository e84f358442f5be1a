//! Each file of `tests/ui` is a program that must not compile.

/// A file beside each program holds the expected error. After a change of an error, run with
/// `TRYBUILD=overwrite` to update these files, and review the diff.
#[test]
fn a_wrong_program_gets_an_error_at_its_place() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
