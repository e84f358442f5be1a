-- The schema of Diptych, version 5: a log knows the database that it is in. A copy of a database has
-- another one, also on the same server.

alter table diptych.log add column database_id oid;
