-- Which version of each function is to run: what a deployer compares the servers' reports with.

-- standing --
select slug, version, reload from agentops.deployments;

-- switch_back --
-- Undoes a switch that a server refused, unless somebody else switched meanwhile. Without a version before it, the
-- function is off again.
with restored as (
    update agentops.deployments
    set version = %(previous_version)s::int, reload = %(previous_reload)s::int, deployed_by = %(actor)s,
        deployed_at = now()
    where slug = %(slug)s and version = %(version)s and reload = %(reload)s and %(previous_version)s::int is not null
    returning slug
), removed as (
    delete from agentops.deployments
    where slug = %(slug)s and version = %(version)s and reload = %(reload)s and %(previous_version)s::int is null
    returning slug
), undone as (
    select slug from restored union all select slug from removed
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'function.restore', slug,
           jsonb_build_object('version', %(previous_version)s::int, 'before', %(version)s::int, 'finding', %(finding)s::text)
    from undone
)
select slug from undone;
