-- Replies, at most one for a message.

-- put --
insert into agentops.outbox (conversation_id, inbox_id, correlation_id, body)
values (%(conversation)s, %(inbox)s, %(correlation_id)s, %(body)s)
returning id;

-- sending --
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), taken as (
    update agentops.outbox o set state = 'sending', error = null
    from held where o.id = %(id)s::uuid and o.state = 'pending' and agentops.flag_on(%(flag)s)
    returning o.id
)
select exists (select from held) as held, exists (select from taken) as taken;

-- again --
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
)
update agentops.outbox o set state = 'pending', error = %(error)s
from held where o.id = %(id)s::uuid and o.conversation_id = held.id and o.state = 'sending'
returning o.id;

-- settle --
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), settled as (
    update agentops.outbox o
    set state = case when o.state in ('pending', 'sending') then %(state)s else o.state end,
        wamid = coalesce(%(wamid)s, o.wamid), error = %(error)s,
        sent_at = case when %(state)s = 'sent' then coalesce(o.sent_at, now()) else o.sent_at end
    from held where o.id = %(id)s::uuid and o.conversation_id = held.id
    returning o.id, o.inbox_id
), finished as (
    update agentops.inbox i set state = %(outcome)s, last_error = %(error)s, finished_at = now()
    from settled where i.id = settled.inbox_id and i.state = 'queued'
)
select id from settled;

-- statuses --
-- Meta's order is no order: the highest rank wins, and a failure never undoes a delivery.
with heard as (
    select distinct on (reply.id) reply.id, s.state, s.wamid, s.error, s.rank
    from (
        select m.*, case m.state when 'failed' then 2 when 'sent' then 1 when 'delivered' then 3 else 4 end as rank
        from jsonb_to_recordset(%(statuses)s::jsonb) as m (wamid text, state text, id uuid, error text)
    ) s
    join agentops.outbox reply on reply.wamid = s.wamid
        or reply.id = s.id
    order by reply.id, s.rank desc
)
update agentops.outbox o
set state = heard.state, wamid = coalesce(o.wamid, heard.wamid),
    error = case when heard.state = 'failed' then heard.error else null end,
    sent_at = coalesce(o.sent_at, case when heard.state <> 'failed' then now() end)
from heard
where o.id = heard.id
  and heard.rank > case o.state when 'read' then 4 when 'delivered' then 3 when 'failed' then 2 when 'sent' then 1 else 0 end
returning o.id;
