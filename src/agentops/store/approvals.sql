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
select id, status, customer, amount_minor, currency, channel, correlation_id, requested_by, requested_at,
       decided_by, decided_at, reason, voucher_id::text as voucher_id
from agentops.approvals where id = %(id)s::bigint;

-- locked --
-- Two who decide at once take turns.
select id, status, customer, amount_minor, currency, channel, correlation_id, requested_by, requested_at,
       decided_by, decided_at, reason, voucher_id::text as voucher_id
from agentops.approvals where id = %(id)s::bigint for update;

-- listed --
select id, status, customer, amount_minor, currency, channel, correlation_id, requested_by, requested_at,
       decided_by, decided_at, reason, voucher_id::text as voucher_id
from agentops.approvals
where status = 'pending' and (%(customer)s::text is null or customer = %(customer)s)
order by requested_at desc, id desc
limit %(limit)s;

-- decide --
with decided as (
    update agentops.approvals
    set status = %(status)s, decided_by = %(actor)s, decided_at = now(), reason = %(reason)s,
        voucher_id = %(voucher_id)s::uuid
    where id = %(id)s::bigint and status = 'pending'
    returning id, requested_by, amount_minor, currency
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, case %(status)s when 'approved' then 'approval.approve' else 'approval.reject' end, id::text,
           jsonb_strip_nulls(jsonb_build_object('requested_by', requested_by, 'amount_minor', amount_minor,
                                                'currency', currency, 'voucher_id', %(voucher_id)s::text,
                                                'reason', %(reason)s::text))
    from decided
)
select id from decided;
