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

-- failures --
-- Failures after Meta had accepted a reply do what the same code does as an answer. What may be tried again goes back to
-- `pending`, its messages to the queue. A failure is of one try: under an id that the reply has got rid of it is old,
-- and told twice it counts once. Where a reply was tried more than once and has no id yet, nobody knows which try
-- failed: then it is not sent again by itself. What has failed already (an operator's word) only notes it. The
-- conversations are locked first, in their order, as everywhere.
with told as (
    select f.* from jsonb_to_recordset(%(failures)s::jsonb)
        as f (wamid text, id uuid, error text, code integer, action text)
), heard as materialized (
    select distinct on (o.id) o.id, o.conversation_id, o.correlation_id, o.generation,
           told.wamid, told.error, told.code, told.action,
           case when o.answers = '{}' then array[o.inbox_id] else o.answers end as messages,
           o.state = 'failed' as over,
           coalesce(told.action = any(%(again)s::text[]) and o.inbox_id is not null and o.state <> 'failed'
                    and cardinality(o.refused) < %(tries)s::integer
                    and (o.wamid = told.wamid or o.wamid is null and o.tries <= 1), false) as again,
           least(power(4, cardinality(o.refused)), %(longest)s::float8)::float8 as seconds
    from told join agentops.outbox o on o.wamid = told.wamid or o.id = told.id
    where not told.wamid = any(o.refused) and coalesce(o.wamid = told.wamid, true)
    order by o.id
), lanes as materialized (
    select c.id, c.phone_id from agentops.conversations c
    where c.id in (select conversation_id from heard)
    order by c.lane
    for update
), ended as (
    update agentops.outbox o
    set state = case when heard.again then 'pending' else 'failed' end,
        wamid = case when heard.again then null else coalesce(o.wamid, heard.wamid) end,
        refused = o.refused || heard.wamid, error = heard.error, code = heard.code,
        sent_at = case when heard.again then null else o.sent_at end
    from heard join lanes on lanes.id = heard.conversation_id
    where o.id = heard.id and (o.state in ('sending', 'sent', 'uncertain') or (o.state = 'failed' and not heard.again))
      and not heard.wamid = any(o.refused) and coalesce(o.wamid = heard.wamid, true)
    returning o.id, lanes.phone_id
), known as materialized (
    select heard.*, ended.phone_id from heard join ended on ended.id = heard.id
), messages as (
    update agentops.inbox i
    set state = case when known.again then 'queued' else 'dead' end, last_error = known.error,
        attempts = case when known.again then 1 else i.attempts end,
        finished_at = case when known.again then null else now() end
    from known
    where i.id = any(known.messages) and i.state = 'done' and not known.over
      and (known.again or not known.action = any(%(closing)s::text[]))
), slowed as (
    update agentops.conversations c
    set due_at = least(c.due_at, now() + make_interval(secs => waits.seconds)),
        next_send_at = case when waits.paced
            then now() + make_interval(secs => %(ahead)s::float8 + waits.seconds) else c.next_send_at end
    from (
        select conversation_id, max(seconds) as seconds, bool_or(not %(blocks)s::jsonb ? action) as paced
        from known where again group by conversation_id
    ) waits
    where c.id = waits.conversation_id
), worst as (
    select distinct on (phone_id) phone_id, action, code, generation
    from known where %(blocks)s::jsonb ? action
    order by phone_id, action = 'rate', generation desc
), blocked as materialized (
    select phone_id, agentops.block_number(phone_id, action, code, (%(blocks)s::jsonb ->> action)::float8,
                                           %(longest)s::float8, generation, true) as seconds
    from worst
)
select known.id::text as outbox, known.correlation_id, known.phone_id, known.action, known.code, known.error,
       case when known.again then 'pending' else 'failed' end as state,
       case when known.again then coalesce(blocked.seconds, known.seconds) end as seconds
from known left join blocked on blocked.phone_id = known.phone_id;
