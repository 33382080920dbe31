-- The page's two questions about vouchers (runbook, "Database Maintenance").

-- vouchers --
select status, currency, count(*) as count, sum(amount_minor)::numeric / 100 as sum
from public.vouchers
where created_at > now() - make_interval(days => %(days)s::integer)
group by status, currency
order by status, currency;

-- ai_vouchers --
select to_char(date(issued_at), 'YYYY-MM-DD') as date, count(*) as count
from public.vouchers
where policy_number like 'AI-%%'
group by date(issued_at)
order by date(issued_at) desc
limit %(days)s;
