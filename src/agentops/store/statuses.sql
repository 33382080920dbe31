-- Statuses of our messages, unique by message and status.

-- record --
-- In one order, so that two deliveries never wait for each other.
with new as (
    insert into agentops.statuses (wamid, status, payload)
    select r.wamid, r.status, r.payload
    from jsonb_to_recordset(%(reports)s::jsonb) as r (wamid text, status text, payload jsonb)
    order by r.wamid, r.status
    on conflict do nothing
    returning wamid
)
select count(*) as new from new;
