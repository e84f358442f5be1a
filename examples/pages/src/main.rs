//! Runs the program of a page that its first argument names: `pages http`.

use std::{env, process::ExitCode};

/// Makes a module of each program, whose file is the block of a page as it is shown. Beside the
/// private `main` of that file, `run` calls it.
macro_rules! programs {
    ($($name:ident)*) => {
        $(mod $name {
            include!(concat!("programs/", stringify!($name), ".rs"));

            pub(super) fn run() -> std::process::ExitCode {
                std::process::Termination::report(main())
            }
        })*

        fn main() -> ExitCode {
            match env::args().nth(1).as_deref() {
                $(Some(stringify!($name)) => $name::run(),)*
                _ => {
                    eprintln!("name a program: {}", [$(stringify!($name)),*].join(", "));
                    ExitCode::from(2)
                }
            }
        }
    };
}

programs! {
    customers
    depot
    http
    mounted
    postgres_balances
    postgres_log
    postgres_orders
    postgres_sales
    schemas
    secured_log
}
