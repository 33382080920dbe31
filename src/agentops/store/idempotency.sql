-- claim --
-- Waits where another transaction has inserted the same key and not ended yet.
insert into agentops.idempotency (scope, key, fingerprint, status, body)
values (%(scope)s, %(key)s, %(fingerprint)s, 0, '{}')
on conflict do nothing
returning true as claimed;

-- stored --
select fingerprint, status, body from agentops.idempotency where scope = %(scope)s and key = %(key)s;

-- settle --
update agentops.idempotency set status = %(status)s, body = %(body)s::json
where scope = %(scope)s and key = %(key)s;

-- expire --
with old as (
    select scope, key from agentops.idempotency where created_at < now() - make_interval(days => %(days)s)
    order by created_at limit %(batch)s for update skip locked
), gone as (
    delete from agentops.idempotency i using old where i.scope = old.scope and i.key = old.key returning i.key
)
select count(*) as deleted from gone;
