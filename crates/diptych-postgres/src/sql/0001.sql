-- The schema of Diptych, version 1. One database has one schema, with any number of logs.
--
-- Texts that users choose are kept with a backslash as \\ and a NUL as \0, because PostgreSQL has
-- no NUL in a text.

create table diptych.setting (
  one boolean primary key default true check (one),
  -- Positions of one partition.
  partition_events bigint not null check (partition_events > 0)
);

create table diptych.log (
  id smallint generated always as identity primary key,
  name text collate "C" not null unique,
  uuid uuid not null,
  epoch bigint not null,
  -- The last position, the number of commits, and the time of the last one in microseconds.
  head bigint not null default 0,
  commits bigint not null default 0,
  recorded_at bigint not null default -9223372036854775808,
  -- The server and the timeline that wrote last, where the server tells them.
  system_id bigint,
  timeline bigint
) with (fillfactor = 10);

create table diptych.type_name (
  id integer generated always as identity primary key,
  name text collate "C" not null unique
);

create table diptych.event (
  log smallint not null,
  type integer not null,
  pos bigint not null,
  recorded_at bigint not null,
  -- Events of the same commit after this one.
  remaining integer not null,
  tags text[] collate "C" not null,
  -- The fields of the event besides type, tags and payload, in the encoding of Diptych.
  meta bytea,
  data bytea not null,
  primary key (log, pos)
) partition by range (pos);
create index event_by_type on diptych.event (log, type, pos);

-- One row for each tag of an event. h is a hash of the tag, so a match is compared with event.tags.
create table diptych.tag (
  log smallint not null,
  type integer not null,
  h bigint not null,
  pos bigint not null,
  primary key (log, h, pos) include (type)
) partition by range (pos);

create table diptych.key (
  log smallint not null,
  key text collate "C" not null,
  digest uuid not null,
  first bigint not null,
  last bigint not null,
  primary key (log, key)
);
create unique index key_by_commit on diptych.key (log, last);

-- The newest tracking of each source.
create table diptych.tracking (
  log smallint not null,
  source text collate "C" not null,
  position numeric(20, 0) not null,
  origin uuid,
  origin_epoch bigint,
  at bigint not null,
  primary key (log, source)
) with (fillfactor = 50);

-- The tracking of each commit that has one. A commit without events stands after the event at last.
create table diptych.tracked (
  log smallint not null,
  last bigint not null,
  number bigint not null,
  has_events boolean not null,
  recorded_at bigint not null,
  source text collate "C" not null,
  position numeric(20, 0) not null,
  origin uuid,
  origin_epoch bigint,
  primary key (log, last, number)
);

-- The last batch of each writer, with its answer, for a writer that lost its connection.
create table diptych.writer (
  log smallint not null,
  id uuid not null,
  batch bigint not null,
  verdicts bigint[] not null,
  used_at timestamptz not null default now(),
  primary key (log, id)
) with (fillfactor = 20);

-- Adds the partition with this number, unless it is there. It takes no lock that an append or a
-- read waits for.
create function diptych.add_partition(p_number bigint) returns void
language plpgsql as $$
declare
  v_size bigint;
  v_parent text;
  v_name text;
begin
  perform pg_advisory_xact_lock(7239842318440297029);
  select partition_events into v_size from diptych.setting;
  foreach v_parent in array array['event', 'tag'] loop
    v_name := format('%s_p%s', v_parent, p_number);
    if to_regclass('diptych.' || v_name) is null then
      -- Rows are never changed, so they are frozen early, by one pass over new pages only.
      execute format(
        'create table diptych.%I (like diptych.%I including all) with ('
        'autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000, '
        'autovacuum_analyze_scale_factor = 0.2, autovacuum_freeze_min_age = 0)',
        v_name, v_parent);
      execute format(
        'alter table diptych.%I attach partition diptych.%I for values from (%s) to (%s)',
        v_parent, v_name, p_number * v_size, (p_number + 1) * v_size);
    end if;
  end loop;
end
$$;
