-- The schema of Diptych, version 6: the servers and timelines that took a log over, and what
-- programs missed then. Only reports for operators read it.

create table diptych.takeover (
  id bigint generated always as identity primary key,
  log smallint not null,
  -- The epoch that the log had then.
  epoch bigint not null,
  at timestamptz not null default now(),
  -- The server and the timeline before and after, where the server tells them.
  was_system_id bigint,
  was_timeline bigint,
  system_id bigint,
  timeline bigint,
  head bigint not null,
  -- The last position that the program had seen before. Null if it had seen none, so that it cannot
  -- know whether events are missing.
  seen bigint,
  -- The events differ from a position on that is one of these, or between them. Null if all that
  -- the program had seen is there.
  differs_from bigint,
  differs_by bigint,
  -- The least and the greatest number of acknowledged commits of the program that are missing.
  commits bigint,
  most_commits bigint
);
create index takeover_by_log on diptych.takeover (log, id);
