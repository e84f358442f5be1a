//! Outside interference: something other than the program changes the files of a log, or the
//! operating system refuses an operation.
//!
//! One rule holds in every test. No acknowledged commit is lost, no foreign file is read as one of
//! ours, and an error names the file, the operation, the cause and the next step.
//!
//! | interference | tests |
//! |---|---|
//! | the lock file is removed or replaced | `lock` |
//! | the folder is moved, replaced, emptied, or another log is restored there | `folder` |
//! | the published head is removed while programs follow | `head` |
//! | a folder is copied, and both go on | `places` |
//! | files get from one log or time to another | `copies`, `older_copies`, `places` |
//! | the archive is exchanged, or files in it | `archives` |
//! | an operation fails once: open files, memory, the disk | `errors` |
//! | a place that cannot be written to | `unwritable` |
//! | a disk without space | `full_disk` |

mod archives;
mod copies;
mod errors;
mod folder;
mod full_disk;
mod head;
mod lock;
mod older_copies;
mod places;
mod unwritable;
