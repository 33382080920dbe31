-- The stack's own row, and the keys that its first start makes.

-- stack --
select kind, public_key from agentops.stack;

-- create --
with made as (
    insert into agentops.stack (kind, public_key) values (%(kind)s, %(public_key)s)
    on conflict do nothing
    returning kind
), audited as (
    insert into agentops.audit (actor, action, subject) select %(actor)s, 'stack.create', kind from made
)
select count(*) as created from made;

-- lock --
select pg_advisory_lock(%(key)s::bigint);

-- unlock --
select pg_advisory_unlock(%(key)s::bigint);

-- present --
select name from agentops.secrets where name = any(%(names)s::text[]);

-- sealed --
select name, version, sealed from agentops.secrets where name = any(%(names)s::text[]);

-- audit_shown --
insert into agentops.audit (actor, action, subject, detail)
select %(actor)s, 'keys.show', 'stack', jsonb_build_object('names', %(names)s::text[]);
