-- Secrets (sealed) and flags (in clear) as one namespace. Values are never part of a result or of an audit row.

-- listed --
select name, digest, version, updated_by, updated_at from agentops.secrets
union all
select f.name, encode(sha256(agentops.flag_state(f)::text::bytea), 'hex'), f.version, f.updated_by, f.updated_at
from agentops.flags f
order by name;

-- sealed --
select name, version, sealed from agentops.secrets order by name;

-- present --
select name, digest, version, false as timed from agentops.secrets where name = any(%(names)s::text[])
union all
select f.name, encode(sha256(agentops.flag_state(f)::text::bytea), 'hex'), f.version, coalesce(f.until > now(), false)
from agentops.flags f where f.name = any(%(names)s::text[]);

-- public_key --
select public_key from agentops.stack;

-- change --
-- All or none. Rows are locked first, which shows their newest versions: a secret whose version is not the one its
-- value was sealed for makes the whole statement do nothing. A name that somebody else adds at the same time clashes
-- on the primary key. `sealed` null unsets.
with wanted as (
    select * from unnest(%(names)s::text[], %(sealed)s::bytea[], %(digests)s::text[], %(seen)s::int[])
        as w (name, sealed, digest, seen)
), wanted_flags as (
    select * from unnest(%(flag_names)s::text[], %(flag_states)s::boolean[]) as w (name, enabled)
), locked as materialized (
    select name, version from agentops.secrets where name = any(%(names)s::text[]) order by name for update
), stale as materialized (
    select w.name from wanted w left join locked l on l.name = w.name where coalesce(l.version, 0) <> w.seen
), added as (
    insert into agentops.secrets (name, sealed, digest, version, updated_by)
    select name, sealed, digest, 1, %(actor)s from wanted
    where seen = 0 and sealed is not null and not exists (select from stale)
    returning name, version, digest
), replaced as (
    update agentops.secrets s
    set sealed = w.sealed, digest = w.digest, version = s.version + 1, updated_by = %(actor)s, updated_at = now()
    from wanted w
    where s.name = w.name and w.seen > 0 and w.sealed is not null and not exists (select from stale)
    returning s.name, s.version, s.digest
), removed as (
    delete from agentops.secrets s using wanted w
    where s.name = w.name and w.sealed is null and not exists (select from stale)
    returning s.name, s.version, s.digest
), switched as (
    insert into agentops.flags as f (name, enabled, updated_by)
    select name, enabled, %(actor)s from wanted_flags
    where enabled is not null and not exists (select from stale)
    on conflict (name) do update
        set enabled = excluded.enabled, until = null, reverts_to = null, version = f.version + 1,
            updated_by = excluded.updated_by, updated_at = now()
    returning f.name, f.version, f.enabled
), dropped as (
    delete from agentops.flags f using wanted_flags w
    where f.name = w.name and w.enabled is null and not exists (select from stale)
    returning f.name, f.version
), done as (
    select name, version, 'secret.set' as action, left(digest, 12) as digest from added
    union all select name, version, 'secret.set', left(digest, 12) from replaced
    union all select name, version, 'secret.unset', left(digest, 12) from removed
    union all select name, version, case when enabled then 'flag.enable' else 'flag.disable' end, null from switched
    union all select name, version, 'flag.unset', null from dropped
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, action, name, jsonb_strip_nulls(jsonb_build_object('version', version, 'digest', digest))
    from done
)
select name, version, false as stale from done
union all
select name, null, true from stale;
