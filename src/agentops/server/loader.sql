-- What is deployed, with the sources of the active versions.

-- active_rows --
select d.slug, d.version, d.reload, v.sha256, v.entrypoint, v.files,
       to_char(d.deployed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as deployed_at
from agentops.deployments d
join agentops.versions v on v.slug = d.slug and v.version = d.version
order by d.slug;
