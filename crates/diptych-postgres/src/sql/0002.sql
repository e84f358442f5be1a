-- The schema of Diptych, version 2: projections that are written in the transaction of an append.

-- The inline projections of the log, each as its name, an @, and its version. The rows of each are
-- a fold of the log up to the head.
alter table diptych.log add column inline text[] collate "C" not null default '{}';

-- Refuses events from a transaction that does not write the rows of all inline projections. A
-- program says in diptych.inline which ones it writes. Programs that know none say nothing.
create function diptych.check_inline() returns trigger
language plpgsql as $$
declare
  v_carried text[] := coalesce(nullif(current_setting('diptych.inline', true), ''), '{}');
begin
  if not old.inline <@ v_carried then
    raise exception using errcode = 'DP004', message = format(
      'each append to the log writes the rows of %s, and this program writes those of %s: '
        'open its store with the same inline projections in the same versions, or end one by '
        'diptych.end_inline',
      array_to_string(old.inline, ', '),
      coalesce(nullif(array_to_string(v_carried, ', '), ''), 'none')
    );
  end if;
  return new;
end
$$;
create trigger check_inline before update of head on diptych.log
for each row when (new.head > old.head and old.inline <> '{}')
execute function diptych.check_inline();

-- Ends an inline projection, in whatever version. Its rows stay as they are, and appends go on
-- without them. Returns whether the log had it.
create function diptych.end_inline(p_log text, p_name text) returns boolean
language sql as $$
  with ended as (
    update diptych.log l
    set inline = array(
      select i.entry from unnest(l.inline) with ordinality as i(entry, place)
      where regexp_replace(i.entry, '@[0-9]+$', '') <> p_name
      order by i.place
    )
    where l.name = p_log and exists (
      select from unnest(l.inline) as i(entry)
      where regexp_replace(i.entry, '@[0-9]+$', '') = p_name
    )
    returning l.id
  )
  select exists (select from ended)
$$;
