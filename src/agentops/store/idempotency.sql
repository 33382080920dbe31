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
