-- Versions of functions and which one is active. A switch and its audit row are one statement.

-- active --
select d.slug, d.version, d.reload, v.sha256, v.origin, d.deployed_by, d.deployed_at
from agentops.deployments d
join agentops.versions v on v.slug = d.slug and v.version = d.version
order by d.slug;

-- history --
select v.slug, v.version, case when d.version is null then 'stored' else 'active' end as status, v.sha256, v.origin,
       v.created_by as deployed_by, v.created_at as deployed_at
from agentops.versions v
left join agentops.deployments d on d.slug = v.slug and d.version = v.version
where v.slug = %(slug)s
order by v.version desc;

-- refused --
-- Versions that servers refused when they were to become active.
select distinct (detail ->> 'before')::int as version
from agentops.audit where action = 'function.restore' and subject = %(slug)s;

-- source --
select v.files
from agentops.deployments d
join agentops.versions v on v.slug = d.slug and v.version = d.version
where d.slug = %(slug)s;

-- store --
-- A new version, active at once; nothing where the very same is active already. Two deployers of one function at the
-- same time clash on the version's number: one of them hears it.
with before as materialized (
    select d.version, d.reload, v.sha256
    from agentops.deployments d
    left join agentops.versions v on v.slug = d.slug and v.version = d.version
    where d.slug = %(slug)s
    for update of d
), stored as (
    insert into agentops.versions (slug, version, sha256, entrypoint, files, origin, created_by)
    select %(slug)s, coalesce(max(version), 0) + 1, %(sha256)s, %(entrypoint)s, %(files)s::jsonb, %(origin)s, %(actor)s
    from agentops.versions where slug = %(slug)s
    -- This also makes `before` be read before the row is written.
    having not exists (select from before where sha256 = %(sha256)s)
    returning version, sha256
), switched as (
    insert into agentops.deployments as d (slug, version, deployed_by)
    select %(slug)s, version, %(actor)s from stored
    on conflict (slug) do update
        set version = excluded.version, reload = 0, deployed_by = excluded.deployed_by, deployed_at = now()
    returning version, reload
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'function.deploy', %(slug)s,
           jsonb_build_object('version', version, 'sha256', sha256, 'before', (select version from before))
    from stored
)
select s.version, s.reload, (select version from before) as previous_version,
       (select reload from before) as previous_reload
from switched s;

-- reload --
-- The same version once more: servers load it afresh. Nothing where another version became active meanwhile.
with switched as (
    update agentops.deployments
    set reload = reload + 1, deployed_by = %(actor)s, deployed_at = now()
    where slug = %(slug)s and version = %(version)s
    returning version, reload
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'function.reload', %(slug)s, jsonb_build_object('version', version, 'reload', reload)
    from switched
)
select version, reload, version as previous_version, reload - 1 as previous_reload from switched;

-- activate --
-- An older version, active again, if the active one is still the one that the caller saw (null: none).
with before as materialized (
    select version, reload from agentops.deployments where slug = %(slug)s for update
), switched as (
    insert into agentops.deployments as d (slug, version, deployed_by)
    select %(slug)s, %(version)s::int, %(actor)s
    where (select version from before) is not distinct from %(seen)s::int
    on conflict (slug) do update
        set version = excluded.version, reload = 0, deployed_by = excluded.deployed_by, deployed_at = now()
    returning version, reload
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'function.rollback', %(slug)s,
           jsonb_build_object('version', version, 'before', (select version from before))
    from switched
)
select s.version, s.reload, (select version from before) as previous_version,
       (select reload from before) as previous_reload
from switched s;

-- remove --
with removed as (
    delete from agentops.deployments where slug = %(slug)s returning slug, version
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'function.delete', slug, jsonb_build_object('version', version) from removed
)
select version from removed;
