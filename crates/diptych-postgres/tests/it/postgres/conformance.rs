//! The promises of a store. With `DIPTYCH_INLINE` set, it writes rows with each append.

use std::env;

use diptych_postgres::{PostgresOptions, StoreBuilder};
use diptych_store::{
    EventStore, Store,
    testing::{Setup, TestStore, check},
};

use super::{
    inline::Lines,
    server::{new_name, shared},
};

fn fresh(setup: &Setup) -> Option<TestStore> {
    let server = shared()?;
    let name = new_name();
    let mut options = PostgresOptions::default();
    (options.limits, options.time) = (setup.limits.clone(), setup.time);
    let open = move || {
        let mut builder = StoreBuilder::new(server.address("postgres", &name), options.clone());
        if env::var_os("DIPTYCH_INLINE").is_some() {
            builder = builder.inline(Lines { schema: name.clone() });
        }
        pollster::block_on(builder.open()).unwrap()
    };
    let store = open();
    let ended = store.clone();
    let open = move || Store::new(open());
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
