-- Replies, at most one for a message.

-- put --
insert into agentops.outbox (conversation_id, inbox_id, correlation_id, body)
values (%(conversation)s, %(inbox)s, %(correlation_id)s, %(body)s)
returning id;

-- sending --
-- Whether it may be sent now is asked and noted in one statement. `ahead` is how many seconds the customer's pace may run
-- ahead of the clock. A number's block that has ended lets one probe through at a time; newer settings end a block at
-- once, except one that only time cures. What has to wait is not counted as an attempt.
with held as (
    select id, phone_id, extract(epoch from next_send_at - now())::float8 as ahead from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), blocked as (
    select extract(epoch from p.until - now())::float8 as seconds, p.reason
    from agentops.pacing p join held on held.phone_id = p.phone_id
    where p.until > now() and (p.reason = 'rate' or p.generation >= (select n from agentops.generation))
), wait as (
    select o.id, o.inbox_id, agentops.flag_on(%(flag)s) as enabled, blocked.reason,
           greatest(held.ahead - %(ahead)s::float8, blocked.seconds, 0) as seconds
    from held
    join agentops.outbox o on o.id = %(id)s::uuid and o.conversation_id = held.id and o.state = 'pending'
    left join blocked on true
), taken as (
    update agentops.outbox o set state = 'sending', error = null, code = null
    from wait where o.id = wait.id and o.state = 'pending' and wait.enabled and wait.seconds <= 0
    returning o.id
), paced as (
    update agentops.conversations c
    set next_send_at = greatest(coalesce(c.next_send_at, now()), now()) + make_interval(secs => %(interval)s::float8)
    from held, taken where c.id = held.id
), probing as (
    update agentops.pacing p
    set until = now() + make_interval(secs => %(probe)s::float8), generation = (select n from agentops.generation)
    from held, taken where p.phone_id = held.phone_id
), uncounted as (
    update agentops.inbox i set attempts = greatest(i.attempts - 1, 1)
    from wait, held
    where i.conversation_id = held.id and wait.inbox_id in (i.id, i.turn) and i.state = 'queued' and wait.enabled and wait.seconds > 0
)
select exists (select from held) as held, exists (select from taken) as taken, agentops.flag_on(%(flag)s) as enabled,
       coalesce((select seconds from wait), 0) as seconds, (select reason from wait) as reason;

-- back_off --
-- The wait is four times as long after every refusal in a row.
with held as (
    select id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), postponed as (
    update agentops.outbox o set state = 'pending', error = %(error)s, code = %(code)s
    from held where o.id = %(id)s::uuid and o.conversation_id = held.id and o.state = 'sending'
    returning o.inbox_id
), uncounted as (
    update agentops.inbox i set attempts = greatest(i.attempts - 1, 1)
    from postponed, held
    where i.conversation_id = held.id and postponed.inbox_id in (i.id, i.turn) and i.state = 'queued'
), slowed as (
    update agentops.conversations c
    set send_strikes = least(c.send_strikes + 1, 20),
        next_send_at = now() + make_interval(
            secs => %(ahead)s::float8 + least(power(4, c.send_strikes), %(longest)s::float8))
    from held where c.id = held.id
    returning c.send_strikes
)
select exists (select from postponed) as postponed, send_strikes as strikes,
       least(power(4, send_strikes - 1), %(longest)s::float8)::float8 as seconds
from slowed;

-- settle --
-- `sending` as the state leaves the reply to its status webhook. A success ends the block of its number, unless the block
-- is younger than this send.
with held as (
    select id, phone_id from agentops.conversations
    where id = %(conversation)s and fence = %(fence)s and lease_owner = %(owner)s::uuid
    for update
), settled as (
    update agentops.outbox o
    set state = case
            when o.state in ('pending', 'sending') or (o.state = 'uncertain' and %(state)s = 'sent') then %(state)s
            else o.state end,
        wamid = coalesce(%(wamid)s, o.wamid), error = %(error)s, code = %(code)s,
        sent_at = case when %(state)s = 'sent' then coalesce(o.sent_at, now()) else o.sent_at end
    from held where o.id = %(id)s::uuid and o.conversation_id = held.id
    returning o.id, o.inbox_id, o.sending_since
), finished as (
    update agentops.inbox i set state = %(outcome)s, last_error = %(error)s, finished_at = now()
    from settled, held
    where i.conversation_id = held.id and settled.inbox_id in (i.id, i.turn) and i.state = 'queued'
), calmed as (
    update agentops.conversations c set send_strikes = 0 from held where c.id = held.id and c.send_strikes > 0
), unblocked as (
    delete from agentops.pacing p using held, settled
    where p.phone_id = held.phone_id and %(state)s = 'sent' and p.refused_at < settled.sending_since
)
select id from settled;

-- statuses --
-- Meta's order is no order: the highest rank wins, and a failure never undoes a delivery. A failure of an earlier try
-- does not end a reply that waits to be tried again.
with heard as (
    select distinct on (reply.id) reply.id, s.state, s.wamid, s.error, s.code, s.rank
    from (
        select m.*, case m.state when 'failed' then 2 when 'sent' then 1 when 'delivered' then 3 else 4 end as rank
        from jsonb_to_recordset(%(statuses)s::jsonb) as m (wamid text, state text, id uuid, error text, code integer)
    ) s
    join agentops.outbox reply on reply.wamid = s.wamid
        or reply.id = s.id
    order by reply.id, s.rank desc
)
update agentops.outbox o
set state = heard.state, wamid = coalesce(o.wamid, heard.wamid),
    error = case when heard.state = 'failed' then heard.error end,
    code = case when heard.state = 'failed' then heard.code end,
    sent_at = coalesce(o.sent_at, case when heard.state <> 'failed' then now() end)
from heard
where o.id = heard.id
  and heard.rank > case o.state when 'read' then 4 when 'delivered' then 3 when 'failed' then 2 when 'sent' then 1 else 0 end
  and not (heard.state = 'failed' and o.state = 'pending')
returning o.id;

-- report --
-- Replies of which nobody knows whether they arrived: into the one open incident, with an audit row each.
with overdue as (
    select id from agentops.outbox
    where state = 'sending' and sending_since < now() - make_interval(secs => %(seconds)s::float8)
    order by sending_since
    limit 500
    for update skip locked
), unreported as (
    select id from agentops.outbox
    where state = 'uncertain' and reported_at is null
    limit 500
    for update skip locked
), turned as (
    update agentops.outbox o set state = 'uncertain', reported_at = now(), error = coalesce(o.error, %(error)s)
    from (select id from overdue union all select id from unreported) found
    where o.id = found.id
    returning o.id, o.correlation_id
), incident as (
    insert into agentops.incidents as i (kind, reason, detail, opened_by)
    select 'uncertain-reply', %(reason)s, jsonb_build_object('outbox', jsonb_agg(turned.id)), %(actor)s
    from turned having count(*) > 0
    on conflict (kind) where kind = 'uncertain-reply' and status = 'open'
    do update set detail = jsonb_set(i.detail, '{outbox}', (i.detail -> 'outbox') || (excluded.detail -> 'outbox'))
    returning i.id
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'reply.uncertain', turned.id::text, jsonb_build_object('incident', incident.id)
    from turned, incident
)
select turned.id::text as outbox, turned.correlation_id, incident.id as incident from turned, incident;

-- tidy --
-- What is known by now leaves the incident; the last one closes it. A reply that another statement is reporting at this
-- moment still looks like `sending` here, and stays.
with open as (
    select i.id, i.detail from agentops.incidents i
    where i.kind = 'uncertain-reply' and i.status = 'open'
    for update
), entries as (
    select open.id as incident, entry.id, o.state
    from open
    cross join jsonb_array_elements_text(open.detail -> 'outbox') as entry (id)
    left join agentops.outbox o on o.id = entry.id::uuid
), settled as (
    select incident, id, coalesce(state, 'forgotten') as state from entries
    where state is null or state not in ('uncertain', 'sending')
), remaining as (
    select incident, coalesce(jsonb_agg(id) filter (where state in ('uncertain', 'sending')), '[]') as ids
    from entries group by incident
), shortened as (
    update agentops.incidents i
    set detail = i.detail || jsonb_build_object(
            'outbox', remaining.ids,
            'settled', coalesce(i.detail -> 'settled', '[]') || (select jsonb_agg(id) from settled)),
        status = case when remaining.ids = '[]' then 'closed' else 'open' end
    from remaining where i.id = remaining.incident and exists (select from settled)
)
insert into agentops.audit (actor, action, subject, detail)
select %(actor)s, 'reply.settled', id, jsonb_build_object('incident', incident, 'state', state)
from settled
returning subject as outbox, detail ->> 'state' as state, (detail ->> 'incident')::bigint as incident;

-- listed --
select o.id::text, o.state, c.customer, o.correlation_id, char_length(o.body) as characters, o.code, o.error,
       o.created_at, o.sending_since, o.sent_at
from agentops.outbox o join agentops.conversations c on c.id = o.conversation_id
where %(state)s::text is null or o.state = %(state)s
order by o.created_at desc, o.id
limit %(limit)s;

-- one --
select o.id::text, o.state, c.customer, o.correlation_id, char_length(o.body) as characters, o.code, o.error,
       o.created_at, o.sending_since, o.sent_at
from agentops.outbox o join agentops.conversations c on c.id = o.conversation_id
where o.id = %(id)s::uuid;

-- reveal --
-- Nobody reads a customer's text without a trace.
with shown as (
    select o.id, o.body from agentops.outbox o where o.id = %(id)s::uuid
), audited as (
    insert into agentops.audit (actor, action, subject)
    select %(actor)s, 'outbox.reveal', id::text from shown
)
select body from shown;

-- resolve --
-- Sent again means: its message waits in the queue again, and the worker finds the reply there as decided.
with lane as (
    select c.id from agentops.conversations c join agentops.outbox o on o.conversation_id = c.id
    where o.id = %(id)s::uuid
    for update of c
), before as (
    select o.id, o.state, o.inbox_id, o.conversation_id from agentops.outbox o join lane on lane.id = o.conversation_id
    where o.id = %(id)s::uuid and o.state = any(%(from)s::text[])
      and (%(to)s <> 'pending' or o.inbox_id is not null)
    for update of o
), resolved as (
    update agentops.outbox o
    set state = %(to)s, error = case when %(to)s = 'failed' then 'resolved as failed by the operator' end,
        reported_at = case when %(to)s = 'pending' then null else o.reported_at end,
        resend_at = case when %(to)s = 'pending' then now() else o.resend_at end,
        sent_at = case when %(to)s = 'sent' then coalesce(o.sent_at, o.sending_since, now()) else o.sent_at end
    from before where o.id = before.id
    returning o.id
), queued as (
    update agentops.inbox i set state = 'queued', attempts = 1, last_error = null, finished_at = null
    from before where i.id = before.inbox_id and %(to)s = 'pending' and i.state <> 'queued'
), due as (
    update agentops.conversations c set due_at = least(c.due_at, now())
    from before where c.id = before.conversation_id and %(to)s = 'pending'
    returning pg_notify(%(channel)s, '')::text
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'outbox.resolve', before.id::text,
           jsonb_build_object('from', before.state, 'to', %(to)s::text, 'incident', (
               select i.id from agentops.incidents i where i.kind = 'uncertain-reply' and i.status = 'open'
               and i.detail -> 'outbox' ? before.id::text))
    from before
)
select resolved.id::text as id, (select count(*) from due) as woken from resolved;
