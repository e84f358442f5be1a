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

-- Decides the commits of one batch, and writes those that it accepts. The answer has four numbers
-- for each commit: 0, first, last and time if it is accepted; 1 and the head if a condition names a
-- position above it; 2 and a count if there are too many sources; 3 if the tracking refuses it; 4,
-- first, last and whether the digest is equal if the key is taken; 5, the event and the position of
-- the condition in a conflict. There are none if the log has another epoch, or a newer batch of
-- this writer was decided. A refusal raises no error, because that would end the whole batch.
create function diptych.append(
  p_log smallint, p_epoch bigint, p_writer uuid, p_batch bigint, p_sources bigint,
  -- The commits. c_after is the highest position of the conditions.
  c_events integer[], c_after bigint[], c_time bigint[], c_key text[], c_digest uuid[],
  c_source text[], c_position text[], c_origin uuid[], c_origin_epoch bigint[],
  -- The items of the conditions, in the order of commits. An item without tags has no hash, one
  -- with several has them all in q_hashes.
  q_commit integer[], q_after bigint[], q_tags text[], q_hash bigint[], q_hashes text[],
  q_types text[],
  -- Events of earlier commits of the batch that a condition of a later one forbids.
  d_commit integer[], d_on integer[], d_offset integer[], d_after bigint[],
  e_commit integer[], e_offset integer[], e_type integer[], e_tags text[], e_meta bytea[],
  e_data bytea[],
  t_commit integer[], t_offset integer[], t_type integer[], t_hash bigint[],
  out o_epoch bigint, out o_head bigint, out o_verdicts bigint[]
)
language plpgsql volatile as $$
declare
  v_log diptych.log%rowtype;
  v_writer diptych.writer%rowtype;
  v_key diptych.key%rowtype;
  v_tracking diptych.tracking%rowtype;
  v_found bigint[];
  v_count integer := cardinality(c_events);
  v_verdicts bigint[] := array_fill(0::bigint, array[4 * cardinality(c_events)]);
  v_firsts bigint[] := array_fill(0::bigint, array[cardinality(c_events)]);
  v_times bigint[] := array_fill(0::bigint, array[cardinality(c_events)]);
  v_head bigint;
  v_commits bigint;
  v_time bigint;
  v_now bigint;
  v_wrote boolean := false;
  v_kind integer;
  v_a bigint;
  v_b bigint;
  v_c bigint;
  v_pos bigint;
  v_at bigint;
  v_after bigint;
  q integer := 1;
  d integer := 1;
begin
  -- Under another level the checks would see the log as it was before the lock.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'DP001',
      message = 'an append needs the isolation level read committed';
  end if;
  if current_setting('diptych.session', true) is distinct from p_writer::text then
    raise exception using errcode = 'DP002',
      message = 'the settings of the session are gone: connect without a pooler, or with one that '
        'keeps a session on one connection';
  end if;
  select * into v_log from diptych.log l where l.id = p_log for no key update;
  if not found then
    raise exception using errcode = 'DP003', message = 'the log is gone';
  end if;
  o_epoch := v_log.epoch;
  o_head := v_log.head;
  if v_log.epoch <> p_epoch then
    return;
  end if;
  select * into v_writer from diptych.writer w where w.log = p_log and w.id = p_writer;
  if v_writer.batch >= p_batch then
    if v_writer.batch = p_batch then
      o_verdicts := v_writer.verdicts;
    end if;
    return;
  end if;

  -- A new statement, so it sees every commit up to the head.
  if cardinality(q_commit) > 0 then
    v_found := array(
      select coalesce(
        case
          when i.hash is not null then (
            select t.pos from diptych.tag t
            where t.log = p_log
              and t.h = (
                case when i.hashes is null then i.hash else (
                  select h.h from unnest(i.hashes::bigint[]) as h(h)
                  order by (
                    select count(*) from (
                      select from diptych.tag s
                      where s.log = p_log and s.h = h.h and s.pos > i.after limit 1000
                    ) s
                  )
                  limit 1
                ) end
              )
              and t.pos > i.after
              and (i.types is null or t.type = any(array(
                select n.id from diptych.type_name n where n.name = any(i.types::text[])
              )))
              and (
                select e.tags @> i.tags::text[] from diptych.event e
                where e.log = p_log and e.pos = t.pos
              )
            order by t.pos desc limit 1
          )
          when i.types is not null then (
            select max(e.pos)
            from diptych.type_name n cross join lateral (
              select e.pos from diptych.event e
              where e.log = p_log and e.type = n.id and e.pos > i.after
              order by e.pos desc limit 1
            ) e
            where n.name = any(i.types::text[])
          )
          when v_log.head > i.after then v_log.head
        end,
        0
      )
      from unnest(q_after, q_tags, q_hash, q_hashes, q_types)
        with ordinality as i(after, tags, hash, hashes, types, place)
      order by i.place
    );
  end if;

  v_head := v_log.head;
  v_commits := v_log.commits;
  v_time := v_log.recorded_at;
  v_now := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
  for i in 1 .. v_count loop
    v_kind := 0;
    v_a := 0;
    v_b := 0;
    v_c := 0;
    v_at := 0;
    v_after := 0;
    while q_commit[q] = i loop
      v_pos := v_found[q];
      if v_pos > v_at or v_pos = v_at and q_after[q] < v_after then
        v_at := v_pos;
        v_after := q_after[q];
      end if;
      q := q + 1;
    end loop;
    while d_commit[d] = i loop
      if v_firsts[d_on[d]] > 0 then
        v_pos := v_firsts[d_on[d]] + d_offset[d];
        if v_pos > v_at or v_pos = v_at and d_after[d] < v_after then
          v_at := v_pos;
          v_after := d_after[d];
        end if;
      end if;
      d := d + 1;
    end loop;
    if c_after[i] > v_log.head then
      v_kind := 1;
      v_a := v_log.head;
    end if;
    if v_kind = 0 and c_source[i] is not null then
      select * into v_tracking from diptych.tracking t
      where t.log = p_log and t.source = c_source[i];
      if not found then
        select count(*) + 1 into v_a from diptych.tracking t where t.log = p_log;
        if v_a > p_sources then
          v_kind := 2;
        end if;
      elsif v_tracking.origin is distinct from c_origin[i]
        or v_tracking.origin_epoch is distinct from c_origin_epoch[i]
        or v_tracking.position >= c_position[i]::numeric then
        v_kind := 3;
      end if;
    end if;
    if v_kind = 0 and c_key[i] is not null then
      select * into v_key from diptych.key k where k.log = p_log and k.key = c_key[i];
      if found then
        v_kind := 4;
        v_a := v_key.first;
        v_b := v_key.last;
        v_c := (v_key.digest = c_digest[i])::integer;
      end if;
    end if;
    if v_kind = 0 and v_at > 0 then
      v_kind := 5;
      v_a := v_at;
      v_b := v_after;
    end if;
    if v_kind = 0 then
      v_a := v_head + 1;
      v_head := v_head + c_events[i];
      v_b := v_head;
      if c_events[i] > 0 or c_source[i] is not null then
        v_wrote := true;
        v_commits := v_commits + 1;
        v_time := greatest(v_time, coalesce(c_time[i], v_now));
      end if;
      if c_events[i] > 0 then
        v_firsts[i] := v_a;
        v_times[i] := v_time;
      end if;
      v_c := v_time;
      if c_key[i] is not null then
        insert into diptych.key (log, key, digest, first, last)
        values (p_log, c_key[i], c_digest[i], v_a, v_b);
      end if;
      if c_source[i] is not null then
        insert into diptych.tracking (log, source, position, origin, origin_epoch, at)
        values (
          p_log, c_source[i], c_position[i]::numeric, c_origin[i], c_origin_epoch[i], v_b
        )
        on conflict (log, source) do update set position = excluded.position, at = excluded.at;
        if c_events[i] = 0 then
          delete from diptych.tracked t
          where t.log = p_log and t.last = v_b and t.source = c_source[i] and not t.has_events;
        end if;
        insert into diptych.tracked (
          log, last, number, has_events, recorded_at, source, position, origin, origin_epoch
        )
        values (
          p_log, v_b, v_commits, c_events[i] > 0, v_time, c_source[i], c_position[i]::numeric,
          c_origin[i], c_origin_epoch[i]
        );
      end if;
    end if;
    v_verdicts[4 * i - 3] := v_kind;
    v_verdicts[4 * i - 2] := v_a;
    v_verdicts[4 * i - 1] := v_b;
    v_verdicts[4 * i] := v_c;
  end loop;

  o_head := v_head;
  o_verdicts := v_verdicts;
  if not v_wrote then
    return;
  end if;
  insert into diptych.event (log, type, pos, recorded_at, remaining, tags, meta, data)
  select p_log, e.type, v_firsts[e.commit] + e.place, v_times[e.commit],
    c_events[e.commit] - 1 - e.place, e.tags::text[], e.meta, e.data
  from unnest(e_commit, e_offset, e_type, e_tags, e_meta, e_data)
    as e(commit, place, type, tags, meta, data)
  where v_firsts[e.commit] > 0;
  insert into diptych.tag (log, type, h, pos)
  select p_log, t.type, t.h, v_firsts[t.commit] + t.place
  from unnest(t_commit, t_offset, t_type, t_hash) as t(commit, place, type, h)
  where v_firsts[t.commit] > 0
  on conflict do nothing;
  insert into diptych.writer (log, id, batch, verdicts)
  values (p_log, p_writer, p_batch, v_verdicts)
  on conflict (log, id) do update
  set batch = excluded.batch, verdicts = excluded.verdicts, used_at = excluded.used_at;
  update diptych.log l set head = v_head, commits = v_commits, recorded_at = v_time
  where l.id = p_log;
end
$$;
