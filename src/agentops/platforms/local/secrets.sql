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
-- A secret that was unset is present without a digest: its versions go on where they ended.
select v.name, s.digest, v.n as version, false as timed
from agentops.secret_versions v left join agentops.secrets s on s.name = v.name
where v.name = any(%(names)s::text[])
union all
select f.name, encode(sha256(agentops.flag_state(f)::text::bytea), 'hex'), f.version, coalesce(f.until > now(), false)
from agentops.flags f where f.name = any(%(names)s::text[]);

-- public_key --
select public_key from agentops.stack;

-- change --
-- All or none. The counters are locked first, which shows their newest state: a name that was changed since (set or
-- unset) makes the whole statement do nothing, for its value was sealed for another version. A name that somebody else
-- adds at the same time clashes on the counter's primary key. `sealed` null unsets.
with wanted as (
    select * from unnest(%(names)s::text[], %(sealed)s::bytea[], %(digests)s::text[], %(seen)s::int[])
        as w (name, sealed, digest, seen)
), wanted_flags as (
    select * from unnest(%(flag_names)s::text[], %(flag_states)s::boolean[]) as w (name, enabled)
), locked as materialized (
    select name, n from agentops.secret_versions where name = any(%(names)s::text[]) order by name for update
), stale as materialized (
    select w.name from wanted w left join locked l on l.name = w.name where coalesce(l.n, 0) <> w.seen
), begun as (
    insert into agentops.secret_versions (name, n)
    select name, 1 from wanted where seen = 0 and not exists (select from stale)
), counted as (
    update agentops.secret_versions v set n = w.seen + 1
    from wanted w where v.name = w.name and w.seen > 0 and not exists (select from stale)
), kept as (
    insert into agentops.secrets as s (name, sealed, digest, version, updated_by)
    select name, sealed, digest, seen + 1, %(actor)s from wanted
    where sealed is not null and not exists (select from stale)
    on conflict (name) do update
        set sealed = excluded.sealed, digest = excluded.digest, version = excluded.version,
            updated_by = excluded.updated_by, updated_at = now()
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
    select name, version, 'secret.set' as action, left(digest, 12) as digest from kept
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
