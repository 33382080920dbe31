-- The settings of the stack in one statement, so in one snapshot.

-- settings --
select g.n as generation, s.kind,
       coalesce((select jsonb_object_agg(f.name, agentops.flag_state(f)) from agentops.flags f), '{}') as flags,
       -- Seconds until the next timed flag turns, by this database's clock.
       (select extract(epoch from min(f.until) - clock_timestamp())::float8
        from agentops.flags f where f.until > now()) as turns_in,
       coalesce((select jsonb_agg(jsonb_build_array(c.name, c.version, encode(c.sealed, 'base64')))
                 from agentops.secrets c), '[]') as secrets,
       coalesce((select jsonb_agg(jsonb_build_array(d.slug, d.version, d.reload, d.deployed_at) order by d.slug)
                 from agentops.deployments d), '[]') as deployments
from agentops.generation g cross join agentops.stack s;
