-- The schema of Diptych, version 7: the function that appends. Older versions had it with more work
-- for each commit.

-- An answer of up to 8 kB is kept as it is. Its compression was 8 % of the instructions of an append
-- of 64 commits.
alter table diptych.writer set (toast_tuple_target = 8160);

-- Decides the commits of one batch, and writes those that it accepts. The answer has four numbers
-- for each commit: 0, first, last and time if it is accepted; 1 and the head if a condition names a
-- position above it; 2 and a count if there are too many sources; 3 if the tracking refuses it; 4,
-- first, last and whether the digest is equal if the key is taken; 5, the event and the position of
-- the condition in a conflict. There are none if the log has another epoch, or a newer batch of
-- this writer was decided. A refusal raises no error, because that would end the whole batch.
create or replace function diptych.append(
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
  v_count integer := cardinality(c_events);
  v_verdicts bigint[] := array_fill(0::bigint, array[4 * cardinality(c_events)]);
  v_firsts bigint[] := array_fill(0::bigint, array[cardinality(c_events)]);
  v_times bigint[] := array_fill(0::bigint, array[cardinality(c_events)]);
  v_head bigint;
  v_commits bigint;
  v_time bigint;
  v_now bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
  -- The last batch of this writer, and its answer.
  v_batch bigint;
  v_answer bigint[];
  v_wrote boolean := false;
  -- The conflict of the commit: the latest forbidden event, and the position of its condition.
  v_at bigint;
  v_after bigint;
  v_pos bigint;
  v_low bigint;
  -- The latest forbidden event of each item, or 0.
  v_found bigint[];
  v_key diptych.key%rowtype;
  v_tracking diptych.tracking%rowtype;
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
  select l.epoch, l.head, l.commits, l.recorded_at into o_epoch, o_head, v_commits, v_time
  from diptych.log l where l.id = p_log for no key update;
  if not found then
    raise exception using errcode = 'DP003', message = 'the log is gone';
  end if;
  if o_epoch <> p_epoch then
    return;
  end if;
  select w.batch, w.verdicts into v_batch, v_answer
  from diptych.writer w where w.log = p_log and w.id = p_writer;
  if v_batch >= p_batch then
    if v_batch = p_batch then
      o_verdicts := v_answer;
    end if;
    return;
  end if;

  -- A new statement, so it sees every commit up to the head. A condition on the head finds nothing.
  -- The lowest position keeps the partitions below it out of the plan.
  if cardinality(q_after) > 0 then
    select min(a) into v_low from unnest(q_after) as a;
  end if;
  if v_low < o_head then
    v_found := array(
      select coalesce(
        case
          when i.hash is not null then (
            select t.pos from diptych.tag t
            where t.log = p_log and t.pos > v_low
              and t.h = (
                case when i.hashes is null then i.hash else (
                  select h.h from unnest(i.hashes::bigint[]) as h(h)
                  order by (
                    select count(*) from (
                      select from diptych.tag s
                      where s.log = p_log and s.h = h.h and s.pos > v_low and s.pos > i.after
                      limit 1000
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
                where e.log = p_log and e.pos = t.pos and e.pos > v_low
              )
            order by t.pos desc limit 1
          )
          when i.types is not null then (
            select max(e.pos)
            from diptych.type_name n cross join lateral (
              select e.pos from diptych.event e
              where e.log = p_log and e.type = n.id and e.pos > v_low and e.pos > i.after
              order by e.pos desc limit 1
            ) e
            where n.name = any(i.types::text[])
          )
          when o_head > i.after then o_head
        end,
        0
      )
      from unnest(q_after, q_tags, q_hash, q_hashes, q_types)
        with ordinality as i(after, tags, hash, hashes, types, place)
      order by i.place
    );
  end if;

  v_head := o_head;
  if cardinality(d_commit) = 0 and 0 < all(c_events) and o_head >= all(c_after)
    and num_nonnulls(variadic c_key) = 0 and num_nonnulls(variadic c_source) = 0
    and num_nonnulls(variadic c_time) = 0 and coalesce(0 = all(v_found), true)
  then
    -- All commits are accepted, as in most batches, so a commit needs no look at all its sides.
    v_wrote := true;
    v_commits := v_commits + v_count;
    v_time := greatest(v_time, v_now);
    v_times := array_fill(v_time, array[v_count]);
    for i in 1 .. v_count loop
      v_firsts[i] := v_head + 1;
      v_verdicts[4 * i - 2] := v_head + 1;
      v_head := v_head + c_events[i];
      v_verdicts[4 * i - 1] := v_head;
      v_verdicts[4 * i] := v_time;
    end loop;
  else
    for i in 1 .. v_count loop
      v_at := 0;
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
      if c_after[i] > o_head then
        v_verdicts[4 * i - 3] := 1;
        v_verdicts[4 * i - 2] := o_head;
        continue;
      end if;
      if c_source[i] is not null then
        select * into v_tracking from diptych.tracking t
        where t.log = p_log and t.source = c_source[i];
        if not found then
          select count(*) + 1 into v_pos from diptych.tracking t where t.log = p_log;
          if v_pos > p_sources then
            v_verdicts[4 * i - 3] := 2;
            v_verdicts[4 * i - 2] := v_pos;
            continue;
          end if;
        elsif v_tracking.origin is distinct from c_origin[i]
          or v_tracking.origin_epoch is distinct from c_origin_epoch[i]
          or v_tracking.position >= c_position[i]::numeric then
          v_verdicts[4 * i - 3] := 3;
          continue;
        end if;
      end if;
      if c_key[i] is not null then
        select * into v_key from diptych.key k where k.log = p_log and k.key = c_key[i];
        if found then
          v_verdicts[4 * i - 3] := 4;
          v_verdicts[4 * i - 2] := v_key.first;
          v_verdicts[4 * i - 1] := v_key.last;
          v_verdicts[4 * i] := (v_key.digest = c_digest[i])::integer;
          continue;
        end if;
      end if;
      if v_at > 0 then
        v_verdicts[4 * i - 3] := 5;
        v_verdicts[4 * i - 2] := v_at;
        v_verdicts[4 * i - 1] := v_after;
        continue;
      end if;
      v_pos := v_head + 1;
      v_verdicts[4 * i - 2] := v_pos;
      v_head := v_head + c_events[i];
      v_verdicts[4 * i - 1] := v_head;
      if c_events[i] > 0 or c_source[i] is not null then
        v_wrote := true;
        v_commits := v_commits + 1;
        v_time := greatest(v_time, coalesce(c_time[i], v_now));
        if c_events[i] > 0 then
          v_firsts[i] := v_pos;
          v_times[i] := v_time;
        end if;
      end if;
      v_verdicts[4 * i] := v_time;
      if c_key[i] is not null then
        insert into diptych.key (log, key, digest, first, last)
        values (p_log, c_key[i], c_digest[i], v_pos, v_head);
      end if;
      if c_source[i] is not null then
        insert into diptych.tracking (log, source, position, origin, origin_epoch, at)
        values (
          p_log, c_source[i], c_position[i]::numeric, c_origin[i], c_origin_epoch[i], v_head
        )
        on conflict (log, source) do update set position = excluded.position, at = excluded.at;
        if c_events[i] = 0 then
          delete from diptych.tracked t
          where t.log = p_log and t.last = v_head and t.source = c_source[i] and not t.has_events;
        end if;
        insert into diptych.tracked (
          log, last, number, has_events, recorded_at, source, position, origin, origin_epoch
        )
        values (
          p_log, v_head, v_commits, c_events[i] > 0, v_time, c_source[i], c_position[i]::numeric,
          c_origin[i], c_origin_epoch[i]
        );
      end if;
    end loop;
  end if;

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
  where v_firsts[t.commit] > 0;
  if v_batch is null then
    insert into diptych.writer (log, id, batch, verdicts)
    values (p_log, p_writer, p_batch, v_verdicts);
  else
    update diptych.writer w set batch = p_batch, verdicts = v_verdicts, used_at = now()
    where w.log = p_log and w.id = p_writer;
  end if;
  update diptych.log l set head = v_head, commits = v_commits, recorded_at = v_time
  where l.id = p_log;
end
$$;
