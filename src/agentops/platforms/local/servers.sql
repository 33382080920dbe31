-- Server processes and the settings generation they have applied.

-- live --
select id, host, pid, role, url, generation, functions, started_at,
       extract(epoch from clock_timestamp() - heartbeat_at)::float8 as heartbeat_age
from agentops.servers
where heartbeat_at > clock_timestamp() - interval '10 seconds'
order by role, started_at, pid;

-- generation --
select n from agentops.generation;
