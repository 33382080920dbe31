-- The kill switch, and its undoing. Written for the columns of schema version 1 only: it has to work one version off.

-- bounds --
select set_config('lock_timeout', %(milliseconds)s, false);

-- press --
-- Locks the flags in order of their names before it looks, so that a switch on at the same moment cannot survive it.
-- `saved` keeps each row as it was (null: there was none) and the version that this writes, for `restore`.
with stored as materialized (
    select f.* from agentops.flags f
    where f.name = any(%(names)s::text[])
    order by f.name
    for update
), plan as (
    select w.name,
           -- Lookup follows vouchers where it has no row of its own.
           coalesce(agentops.flag_state(s), case when w.name = 'FEATURE_AGENT_CUSTOMER_LOOKUP'
               then agentops.flag_on('FEATURE_AGENT_VOUCHERS') else false end) as was_on,
           s.name is null or agentops.flag_state(s) or s.until > now() as writes,
           case when s.name is not null then jsonb_build_object(
               'enabled', s.enabled, 'until', s.until, 'reverts_to', s.reverts_to) end as before
    from (select unnest(%(names)s::text[]) as name) w left join stored s on s.name = w.name
), written as (
    insert into agentops.flags as f (name, enabled, until, reverts_to, updated_by)
    select name, false, null, null, %(actor)s from plan where writes order by name
    on conflict (name) do update
        set enabled = false, until = null, reverts_to = null,
            version = f.version + 1, updated_by = excluded.updated_by, updated_at = now()
    returning f.name, f.version
), saved as (
    select coalesce(jsonb_object_agg(p.name, jsonb_build_object('before', p.before, 'version', w.version)), '{}') as rows
    from written w join plan p on p.name = w.name
), incident as (
    insert into agentops.incidents as i (kind, reason, features, switched_off, detail, opened_by)
    select 'kill-switch', %(reason)s, %(names)s::text[],
           array(select name from plan where was_on order by name),
           jsonb_build_object('saved', saved.rows), %(actor)s
    from saved
    on conflict (kind) where kind = 'kill-switch' and status = 'open' do update
        set features = array(select distinct unnest(i.features || excluded.features) order by 1),
            switched_off = array(select distinct unnest(i.switched_off || excluded.switched_off) order by 1),
            reason = case when excluded.reason = '' then i.reason
                          when i.reason = '' then excluded.reason
                          when position('; ' || excluded.reason || '; ' in '; ' || i.reason || '; ') > 0 then i.reason
                          else i.reason || '; ' || excluded.reason end,
            -- What was first, stays first; only the version moves on.
            detail = jsonb_build_object('saved', coalesce(i.detail -> 'saved', '{}') || coalesce((
                select jsonb_object_agg(n.key, case when i.detail -> 'saved' ? n.key
                    then jsonb_set(i.detail -> 'saved' -> n.key, '{version}', n.value -> 'version') else n.value end)
                from jsonb_each(excluded.detail -> 'saved') n), '{}'))
    returning i.id, i.features, i.switched_off, xmax = 0 as opened
), facts as (
    select i.id, i.features, i.opened,
           i.opened or exists (select from plan where was_on or (writes and before is not null))
               or exists (select from agentops.incidents o where o.id = i.id and not o.features @> %(names)s::text[])
               as changed
    from incident i
), audited_flags as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'flag.disable', p.name, jsonb_build_object('incident', f.id)
    from plan p, facts f where p.was_on or (p.writes and p.before is not null)
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'incident.kill-switch', f.id::text,
           jsonb_build_object('features', %(names)s::text[], 'reason', %(reason)s, 'opened', f.opened)
    from facts f
)
select id, features, changed from facts;

-- state --
-- What `press` would find: for --check. Reads, writes nothing.
select o.id as incident,
       o.id is null or not o.features @> %(names)s::text[] or coalesce(f.until > now(), false)
           or coalesce(agentops.flag_state(f), case when w.name = 'FEATURE_AGENT_CUSTOMER_LOOKUP'
               then agentops.flag_on('FEATURE_AGENT_VOUCHERS') else false end) as changes
from (select unnest(%(names)s::text[]) as name) w
left join agentops.flags f on f.name = w.name
left join agentops.incidents o on o.kind = 'kill-switch' and o.status = 'open';

-- drain --
-- Got and let go in one statement: who got it alone has waited for every money transaction that held it shared.
select pg_advisory_xact_lock(%(key)s::bigint);

-- holders --
-- Who keeps the kill switch waiting: holders of the money lock, and whoever holds a lock on flags without moving on.
select distinct a.pid, a.application_name, coalesce(host(a.client_addr), 'local socket') as client, a.state
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where a.pid <> pg_backend_pid() and l.granted and l.database = (select oid from pg_database where datname = current_database())
  and ((l.locktype = 'advisory' and (l.classid::bigint << 32 | l.objid::bigint) = %(key)s::bigint and l.objsubid = 1)
       or (%(flags)s and l.locktype = 'relation' and l.mode in ('RowExclusiveLock', 'RowShareLock')
           and l.relation in ('agentops.flags'::regclass, 'agentops.generation'::regclass)))
order by a.pid;

-- generation --
select n from agentops.generation;

-- servers --
-- Everyone alive, and everyone who was when we began to wait and has not said goodbye.
select id::text as id, host, pid, generation,
       heartbeat_at > clock_timestamp() - interval '10 seconds' as alive
from agentops.servers
where heartbeat_at > clock_timestamp() - interval '10 seconds' or id = any(%(seen)s::uuid[])
order by host, pid;

-- restore --
-- Puts back each row that the kill switch wrote and nobody has written since: as it was, so that a timed change ends
-- when it would have ended; a row that was not there goes away again.
with incident as (
    update agentops.incidents
    set status = 'restored', restored_by = %(actor)s, restored_at = now()
    where id = %(id)s::bigint and status = 'open'
    returning id, switched_off, detail -> 'saved' as saved
), entries as (
    select s.key as name, s.value -> 'before' as before, (s.value ->> 'version')::integer as version
    from incident, jsonb_each(incident.saved) s
), mine as materialized (
    select e.name, e.before from entries e join agentops.flags f on f.name = e.name and f.version = e.version
    order by f.name
    for update of f
), removed as (
    delete from agentops.flags f using mine m where f.name = m.name and m.before = 'null'
), written as (
    update agentops.flags f
    set enabled = (m.before ->> 'enabled')::boolean, until = (m.before ->> 'until')::timestamptz,
        reverts_to = (m.before ->> 'reverts_to')::boolean, version = f.version + 1,
        updated_by = %(actor)s, updated_at = now()
    from mine m where f.name = m.name and m.before <> 'null'
    returning f.name
), audited_flags as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'flag.restore', w.name, jsonb_build_object('incident', i.id) from written w, incident i
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'incident.restore', i.id::text, jsonb_build_object('restored', array(select name from mine))
    from incident i
)
select array(select m.name from mine m where m.before <> 'null' or m.name = any(switched_off) order by 1) as restored,
       array(select name from entries where name not in (select name from mine) order by name) as kept
from incident;

-- restorable --
-- What `restore` would put back: for --check and for the question.
select s.key as name, coalesce(f.version = (s.value ->> 'version')::integer, false) as mine,
       s.value -> 'before' <> 'null' or s.key = any(i.switched_off) as shown
from agentops.incidents i, jsonb_each(i.detail -> 'saved') s left join agentops.flags f on f.name = s.key
where i.id = %(id)s::bigint and i.status = 'open'
order by s.key;
