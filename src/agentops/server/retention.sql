-- expire_logs --
with old as (
    select id from agentops.logs where at < now() - make_interval(days => %(days)s)
    order by at limit %(batch)s for update skip locked
), gone as (
    delete from agentops.logs l using old where l.id = old.id returning l.id
)
select count(*) as deleted from gone;
