//! Tables of PostgreSQL become rows of records and are compared with them, with a real server.

use diptych_postgres_testing::{new_name, shared};

use crate::program::Program;

#[test]
fn a_table_of_postgres_is_imported_once_and_compared() {
    let Some(server) = shared() else { return };
    let table = new_name();
    server.execute(
        "postgres",
        &format!(
            "create table \"{table}\" (number integer primary key, city text, fax point);
             insert into \"{table}\" values (1, 'Rome', '(1,2)'), (2, null, null)"
        ),
    );
    let address = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port());
    let program = Program::new();
    let options = ["--table", &table, "--rename", "number=id"];
    let (ran, _) = program.customers_said("import", &address, &options);
    assert!(ran.stderr.contains("column fax has the type point"), "{}", ran.stderr);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let options = [&options[..], &["--skip", "fax"]].concat();
    let (_, report) = program.customers("import", &address, &options);
    assert_eq!((&report["created"], &report["refused"]), (&2.into(), &0.into()));
    let (_, report) = program.customers("import", &address, &options);
    assert_eq!((&report["unchanged"], program.events()), (&2.into(), 2));
    let (ran, _) = program.customers("compare", &address, &options);
    ran.ended(0, "");

    let select = format!("select number as id, city from \"{table}\" where number = 1");
    let options = ["--table", &table, "--select", &select, "--delete-missing"];
    let (_, report) = program.customers("import", &address, &options);
    assert_eq!((&report["unchanged"], &report["deleted"]), (&1.into(), &1.into()));

    let secret = address.replace("postgres@", "postgres:hidden@");
    let (ran, _) = program.customers_said("import", &secret, &[]);
    assert!(ran.stderr.contains("cannot take the database: it is a database"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hidden"), "{}", ran.stderr);
}
