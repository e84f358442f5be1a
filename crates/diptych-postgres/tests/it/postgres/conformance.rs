//! The promises of a store.

use diptych_postgres::PostgresOptions;
use diptych_store::{
    EventStore, Store,
    testing::{Setup, TestStore, check},
};

use super::server::{new_name, shared};

fn fresh(setup: &Setup) -> Option<TestStore> {
    let server = shared()?;
    let name = new_name();
    let mut options = PostgresOptions::default();
    (options.limits, options.time) = (setup.limits.clone(), setup.time);
    let store = server.open_with(&name, options.clone());
    let ended = store.clone();
    let open = move || Store::new(server.open_with(&name, options.clone()));
    let second = open.clone();
    let end = move || pollster::block_on(ended.close()).unwrap();
    Some(TestStore::new(store).reopen(open).second(second).end(end))
}

/// One test for each case of the suite, as `conformance!` makes them, where a server can be had.
macro_rules! cases {
    (() $($name:ident: $group:ident, $needs:tt, $proves:literal;)*) => {
        $(
            #[test]
            fn $name() {
                if shared().is_some() {
                    check(stringify!($name), &fresh, &[]);
                }
            }
        )*
    };
}

diptych_store::__conformance_cases! { (cases) () }
