-- Vouchers: each change is one conditional statement with its ledger and audit rows. Two callers can never both win:
-- the loser of a row lock looks at the winner's row again, and its condition no longer holds.
-- All run inside `Database.money()`, behind the kill switch's barrier; the flags are read in the statement itself.

-- issue --
with code as materialized (
    select c.code
    from unnest(%(candidates)s::text[]) as c (code)
    where agentops.vouchers_on(%(channel)s)
      and not agentops.code_taken(c.code)
    limit 1
), identity as materialized (
    select gen_random_uuid() as id, upper(left(replace(gen_random_uuid()::text, '-', ''), 12)) as policy
), issued as (
    insert into public.vouchers as v
        (id, code_5, amount_minor, currency, status, user_id, whatsapp_e164, policy_number, qr_payload,
         issued_at, created_at, updated_at)
    select identity.id, code.code, %(amount_minor)s, %(currency)s, 'issued',
           (select p.user_id from public.profiles p where p.whatsapp_e164 = %(customer)s order by p.user_id limit 1),
           %(customer)s, 'AI-' || identity.policy, 'voucher:' || identity.id || ':' || code.code, now(), now(), now()
    from code, identity
    -- Another transaction may have taken the code since it was seen free: no row then, and the caller tries another.
    on conflict do nothing
    returning v.id, v.status::text as status, v.amount_minor, v.currency, v.issued_at as changed_at
), entered as (
    insert into agentops.ledger (voucher_id, kind, amount_minor, currency, channel, actor, correlation_id)
    select id, 'issue', amount_minor, currency, %(channel)s, %(actor)s, %(correlation_id)s from issued
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'voucher.issue', id::text, %(detail)s::jsonb from issued
)
select id::text as id, status, amount_minor, currency, changed_at from issued;

-- redeem --
with redeemed as (
    update public.vouchers v
    set status = 'redeemed', redeemed_at = now(), updated_at = now()
    where v.id = %(voucher_id)s::uuid
      and v.whatsapp_e164 = %(customer)s
      and v.status = 'issued'
      and agentops.vouchers_on(%(channel)s)
    returning v.id, v.status::text as status, v.amount_minor, v.currency, v.redeemed_at as changed_at
), entered as (
    insert into agentops.ledger (voucher_id, kind, amount_minor, currency, channel, actor, correlation_id)
    select id, 'redeem', amount_minor, currency, %(channel)s, %(actor)s, %(correlation_id)s from redeemed
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'voucher.redeem', id::text, %(detail)s::jsonb from redeemed
)
select id::text as id, status, amount_minor, currency, changed_at from redeemed;

-- void --
with voided as (
    update public.vouchers v
    set status = 'void', notes = nullif(concat_ws(E'\n', v.notes, %(reason)s::text), ''), updated_at = now()
    where v.id = %(voucher_id)s::uuid
      and (%(customer)s::text is null or v.whatsapp_e164 = %(customer)s)
      and v.status = 'issued'
      and agentops.vouchers_on(%(channel)s)
    returning v.id, v.status::text as status, v.amount_minor, v.currency, v.updated_at as changed_at
), entered as (
    insert into agentops.ledger (voucher_id, kind, amount_minor, currency, channel, actor, correlation_id)
    select id, 'void', amount_minor, currency, %(channel)s, %(actor)s, %(correlation_id)s from voided
), audited as (
    insert into agentops.audit (actor, action, subject, detail)
    select %(actor)s, 'voucher.void', id::text, %(detail)s::jsonb from voided
)
select id::text as id, status, amount_minor, currency, changed_at from voided;

-- standing --
-- Why a change found nothing to change. Not found and not yours look the same: `status` is null.
select agentops.vouchers_on(%(channel)s) as enabled, v.status::text as status
from (select) as always
left join public.vouchers v
    on v.id = %(voucher_id)s::uuid and (%(customer)s::text is null or v.whatsapp_e164 = %(customer)s);

-- free_codes --
-- The slow way (about 0.1 s), taken only where guesses at random found no free code.
select code from agentops.free_codes(16) as code;

-- codes_in_use --
select count(*) as n from public.vouchers where status in ('issued', 'redeemed');

-- listed --
select v.id::text as id, v.status::text as status, v.code_5, v.amount_minor, v.currency, v.whatsapp_e164 as customer,
       v.created_at, l.actor as issued_by
from public.vouchers v
left join agentops.ledger l on l.voucher_id = v.id and l.kind = 'issue'
where (%(status)s::text is null or v.status = %(status)s) and (%(customer)s::text is null or v.whatsapp_e164 = %(customer)s)
order by v.created_at desc, v.id
limit %(limit)s;

-- one --
select v.id::text as id, v.status::text as status, v.code_5, v.amount_minor, v.currency, v.whatsapp_e164 as customer,
       v.created_at, l.actor as issued_by
from public.vouchers v
left join agentops.ledger l on l.voucher_id = v.id and l.kind = 'issue'
where v.id = %(voucher_id)s::uuid;

-- entries --
select at, kind, channel, actor, correlation_id from agentops.ledger where voucher_id = %(voucher_id)s::uuid order by at, id;
