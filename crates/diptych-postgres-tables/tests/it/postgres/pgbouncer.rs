//! A pooler between a projection and its database.

use diptych::projection::{Target, TargetError};
use diptych_postgres_tables::Postgres;
use diptych_postgres_testing::{Pooler, PostgresServer};

use super::{
    follow::follow,
    shop::{Place, Sales, busy_app},
};

#[test]
fn rows_go_through_a_pool_with_sessions_and_one_without_them_is_refused() {
    let Some(server) = PostgresServer::start() else { return };
    let place = Place::named(&server, "postgres", "reports");
    let app = busy_app(21, 100);
    for (mode, works) in [("transaction", false), ("session", true)] {
        let Some(pooler) = Pooler::start(&server, mode, "") else { return };
        let address = server.address_at(pooler.port(), "postgres", "main");
        let mut sales = Postgres::at(&address).schema(&place.schema).projection(Sales);
        if works {
            follow(app.store(), &mut sales, 10).unwrap();
            assert_eq!(place.assert_in_step(&server, app.store()).get(), 100);
            continue;
        }
        let error = sales.checkpoint().unwrap_err();
        assert!(matches!(error, TargetError::Broken { .. }), "{error}");
        let text = error.to_string();
        for word in ["127.0.0.1/postgres", "pool_mode = transaction", "connect to the server"] {
            assert!(text.contains(word), "{text}");
        }
        let [schemas] =
            place.ask(&server, ["select 1 from pg_namespace where nspname = 'reports'"]);
        assert!(schemas.is_empty(), "the pool changed something");
    }
}
