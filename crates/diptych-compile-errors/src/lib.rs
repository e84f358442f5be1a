//! Tests of the errors that the compiler gives for programs that use Diptych wrongly. They are a
//! package of their own, because `trybuild` compiles all that the package of a test depends on.
