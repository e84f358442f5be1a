-- The schema of Diptych, version 3: logs that move to another place with their identity.

alter table diptych.log
  -- The place to which the log moved. From then on it takes no commits here.
  add column moved_to text,
  -- The place from which the log is moving, until it is whole, and the store that writes it.
  add column moving_from text,
  add column mover uuid;

-- Refuses commits to a log that moved away, and those of users to a log that is not whole yet.
create function diptych.check_move() returns trigger
language plpgsql as $$
begin
  if old.moved_to is not null then
    raise exception using errcode = 'DP005',
      message = format('the log moved to %s and takes commits there', old.moved_to),
      hint = 'use it there; here it can still be read';
  end if;
  if current_setting('diptych.session', true) is distinct from old.mover::text then
    raise exception using errcode = 'DP006',
      message = format(
        'the log moves here from %s, and takes no commits until all of it is here', old.moving_from
      ),
      hint = 'repeat `diptych copy --move` with the same places';
  end if;
  return new;
end
$$;
-- A commit without events raises the number of commits alone.
create trigger check_move before update of head, commits on diptych.log
for each row when (
  (new.head > old.head or new.commits > old.commits)
  and (old.moved_to is not null or old.moving_from is not null)
)
execute function diptych.check_move();

-- Removes a log that is not whole, because its move was given up or begins anew. Returns whether
-- there was one.
create function diptych.end_arrival(p_log text) returns boolean
language plpgsql as $$
declare
  v_log smallint;
begin
  select l.id into v_log from diptych.log l
  where l.name = p_log and l.moving_from is not null for update;
  if not found then
    return false;
  end if;
  delete from diptych.event e where e.log = v_log;
  delete from diptych.tag t where t.log = v_log;
  delete from diptych.key k where k.log = v_log;
  delete from diptych.tracking t where t.log = v_log;
  delete from diptych.tracked t where t.log = v_log;
  delete from diptych.writer w where w.log = v_log;
  delete from diptych.log l where l.id = v_log;
  return true;
end
$$;
