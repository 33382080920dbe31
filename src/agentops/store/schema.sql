-- exists --
select to_regclass('agentops.migrations') is not null as present;

-- version --
select max(version) as version from agentops.migrations;

-- lock --
select pg_advisory_lock(%(key)s::bigint);

-- unlock --
select pg_advisory_unlock(%(key)s::bigint);
