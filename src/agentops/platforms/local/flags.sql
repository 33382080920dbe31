-- Flags as this database's clock sees them now.

-- flags --
select f.name, agentops.flag_state(f) as enabled,
       case when f.until > now() then f.until end as until,
       f.updated_by, f.updated_at
from agentops.flags f
order by f.name;

-- set_flags --
-- Only rows whose effect differs are written. A permanent change ends a timed one; a timed change remembers what to
-- go back to: what is in force now, or what an earlier timed change would have gone back to.
with wanted as (
    select unnest(%(names)s::text[]) as name
), plan as (
    select w.name,
           coalesce(agentops.flag_state(f), false) as was,
           case when %(seconds)s::float8 is null then null
                else now() + make_interval(secs => %(seconds)s::float8) end as until,
           case when %(seconds)s::float8 is null then null
                when f.until > now() then f.reverts_to
                else coalesce(agentops.flag_state(f), false) end as reverts_to,
           f.name is null or agentops.flag_state(f) is distinct from %(enabled)s
               or f.until > now() or %(seconds)s::float8 is not null as changes
    from wanted w left join agentops.flags f on f.name = w.name
), written as (
    insert into agentops.flags as f (name, enabled, until, reverts_to, updated_by)
    select name, %(enabled)s, until, reverts_to, %(actor)s from plan where changes
    on conflict (name) do update
        set enabled = excluded.enabled, until = excluded.until, reverts_to = excluded.reverts_to,
            version = f.version + 1, updated_by = excluded.updated_by, updated_at = now()
    returning f.*
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, case when %(enabled)s then 'flag.enable' else 'flag.disable' end, w.name,
           jsonb_build_object('until', w.until)
    from written w
)
select p.name, %(enabled)s as enabled, w.until, p.changes as changed,
       coalesce(w.updated_by, f.updated_by) as updated_by, coalesce(w.updated_at, f.updated_at) as updated_at
from plan p
left join written w on w.name = p.name
left join agentops.flags f on f.name = p.name
order by p.name;
