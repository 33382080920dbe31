-- Vouchers that wait for somebody's approval.

-- request --
-- One request of a customer waits at a time; of two at the same moment one is written.
with asked as (
    insert into agentops.approvals (customer, amount_minor, currency, channel, correlation_id, requested_by)
    select %(customer)s, %(amount_minor)s, %(currency)s, %(channel)s, %(correlation_id)s, %(actor)s
    where agentops.vouchers_on(%(channel)s)
    on conflict (customer) where status = 'pending' do nothing
    returning id
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'approval.request', id::text, %(detail)s::jsonb from asked
)
select id from asked;

-- waiting --
select agentops.vouchers_on(%(channel)s) as enabled, a.id, a.amount_minor, a.currency
from (select) as always
left join agentops.approvals a on a.customer = %(customer)s and a.status = 'pending';

-- one --
-- What became of the message that tells the customer, as far as the outbox knows.
select a.id, a.status, a.customer, a.amount_minor, a.currency, a.channel, a.correlation_id, a.requested_by,
       a.requested_at, a.decided_by, a.decided_at, a.reason, a.voucher_id::text as voucher_id,
       case when a.told = 'queued' and o.state <> 'pending' then o.state else a.told end as told
from agentops.approvals a
left join agentops.inbox i on i.message_id = %(prefix)s || a.id
left join agentops.outbox o on o.inbox_id = i.id
where a.id = %(id)s::bigint;

-- locked --
-- Two who decide at once take turns.
select id, status, customer, amount_minor, currency, channel, correlation_id, requested_by, requested_at,
       decided_by, decided_at, reason, voucher_id::text as voucher_id, told
from agentops.approvals where id = %(id)s::bigint for update;

-- listed --
select id, status, customer, amount_minor, currency, channel, correlation_id, requested_by, requested_at,
       decided_by, decided_at, reason, voucher_id::text as voucher_id, told
from agentops.approvals
where status = 'pending' and (%(customer)s::text is null or customer = %(customer)s)
order by requested_at desc, id desc
limit %(limit)s;

-- decide --
with decided as (
    update agentops.approvals
    set status = %(status)s, decided_by = %(actor)s, decided_at = now(), reason = %(reason)s,
        voucher_id = %(voucher_id)s::uuid, told = %(told)s
    where id = %(id)s::bigint and status = 'pending'
    returning id, requested_by, amount_minor, currency
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, case %(status)s when 'approved' then 'approval.approve' else 'approval.reject' end, id::text,
           jsonb_strip_nulls(jsonb_build_object('requested_by', requested_by, 'amount_minor', amount_minor,
                                                'currency', currency, 'voucher_id', %(voucher_id)s::text,
                                                'reason', %(reason)s::text, 'told', %(told)s::text))
    from decided
)
select id from decided;

-- reach --
-- The customer's conversation in which they wrote last, and whether WhatsApp lets us write there: for 24 hours after
-- that. By the customer's key, not by the phone that the conversation was last seen with: that may be another's by now.
select c.id as conversation,
       case when not agentops.flag_on(%(flag)s) then 'chat_off'
            when c.newest_at > now() - make_interval(secs => %(window)s::float8) then 'queued'
            else 'window_closed' end as told
from agentops.customers p
join agentops.conversations c on substr(c.lane, length(c.phone_id) + 2) = any(p.key || p.formerly)
where p.phone = %(customer)s
order by c.newest_at desc nulls last, c.id
limit 1;

-- notice --
-- A message of our own in the customer's queue, its reply decided already: a worker sends it as it sends every reply.
-- It is a turn by itself, so that no message of the customer's is answered together with it.
with lane as (
    select id from agentops.conversations where id = %(conversation)s::bigint for update
), numbered as materialized (
    select lane.id as conversation, nextval(pg_get_serial_sequence('agentops.inbox', 'id')) as id from lane
), stored as (
    insert into agentops.inbox (id, message_id, conversation_id, slug, correlation_id, kind, payload, turn)
    overriding system value
    select id, %(message_id)s, conversation, %(slug)s, %(correlation_id)s, 'notice',
           -- As a message of theirs would say it: every version's worker finds whom it is to.
           jsonb_build_object('from', ltrim(%(customer)s::text, '+')), id
    from numbered
    on conflict (message_id) do nothing
    returning id, conversation_id
), replied as (
    insert into agentops.outbox (conversation_id, inbox_id, correlation_id, body)
    select conversation_id, id, %(correlation_id)s, %(body)s from stored
    returning id
), due as (
    update agentops.conversations c set due_at = coalesce(c.due_at, now())
    from stored where c.id = stored.conversation_id
    returning pg_notify(%(channel)s, '')::text
)
select id::text as outbox, (select count(*) from due) as woken from replied;
