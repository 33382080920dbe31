-- What the model costs in a day, and who changed: a reservation before every request, a notice for what servers keep.
-- Only additions: a server of the version before goes on working beside it, and reserves nothing.

-- Of one day, by one customer ('customer:<key>') or by all ('all'), in micro-US-dollars. `reserved` is what requests
-- under way may cost at most; one whose worker died is never settled, and so stays counted.
create table agentops.cost_days (
    scope text not null,
    day date not null,
    reserved bigint not null default 0 check (reserved >= 0),
    spent bigint not null default 0 check (spent >= 0),
    primary key (scope, day)
);
-- For the retention, which deletes the oldest.
create index cost_days_day on agentops.cost_days (day);

-- A limit as somebody has set it (null: none), else the fallback.
create function agentops.limit_or(name text, fallback bigint) returns bigint language sql stable as $$
    select case when l.name is null then fallback else l.value end
    from (select) as always left join agentops.limits l on l.name = $1
$$;

-- Reserves a request's upper bound under its customer's day and everybody's, both or none; `refused` names the limit
-- that it would have gone over. A row is looked at again once its lock is had, so that two callers never both take the
-- last unit; the rows are always locked in this order, so that they never wait for each other.
create function agentops.reserve_cost(
    customer text, micros bigint, customer_fallback bigint, everyone_fallback bigint, out refused text, out on_day date)
language plpgsql as $$
declare
    own bigint := coalesce(agentops.limit_or('customer-day-cost', customer_fallback), 9223372036854775807);
    everyone bigint := coalesce(agentops.limit_or('day-cost', everyone_fallback), 9223372036854775807);
    minutes integer := coalesce(agentops.limit_or('day-offset-minutes', 0), 0);
begin
    on_day := (now() at time zone 'utc' + make_interval(mins => minutes))::date;
    insert into agentops.cost_days as c (scope, day, reserved) select customer, on_day, micros where micros <= own
    on conflict (scope, day) do update set reserved = c.reserved + excluded.reserved
    where c.reserved + c.spent + excluded.reserved <= own;
    if not found then
        refused := 'customer-day-cost';
        return;
    end if;
    insert into agentops.cost_days as c (scope, day, reserved) select 'all', on_day, micros where micros <= everyone
    on conflict (scope, day) do update set reserved = c.reserved + excluded.reserved
    where c.reserved + c.spent + excluded.reserved <= everyone;
    if not found then
        refused := 'day-cost';
        -- Nobody has seen it: the row is locked until this transaction ends.
        update agentops.cost_days c set reserved = c.reserved - micros where c.scope = customer and c.day = on_day;
    end if;
end $$;

-- Puts what a request has cost in the place of its reservation. Called at most once for each: a settlement that is lost
-- leaves the reservation standing, which counts too much, never too little. So nothing waits for the disk either.
create function agentops.settle_cost(customer text, of_day date, bound bigint, actual bigint) returns void
language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update agentops.cost_days c set reserved = c.reserved - bound, spent = c.spent + actual
    where c.scope = customer and c.day = of_day;
    update agentops.cost_days c set reserved = c.reserved - bound, spent = c.spent + actual
    where c.scope = 'all' and c.day = of_day;
end $$;

-- Tells every server to forget what it keeps of a customer (+E.164). Whoever changes public.profiles may call it too.
-- Cut short, because a notice that is too long would fail the change itself.
create function agentops.customer_changed(phone text) returns void language sql as $$
    select pg_notify('agentops_lookups', left(phone, 32))
$$;

-- The ledger has a row for every change of a voucher. With its owner's rights: a customer's own transaction sees less.
create function agentops.note_voucher_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    perform agentops.customer_changed(v.whatsapp_e164) from public.vouchers v where v.id = new.voucher_id;
    return null;
end $$;
create trigger ledger_customer_changed after insert on agentops.ledger
    for each row execute function agentops.note_voucher_changed();
