-- exists --
select to_regclass('agentops.migrations') is not null as present;

-- version --
select max(version) as version from agentops.migrations;

-- refuses_void --
-- Check constraints on the status alone whose list lacks 'void': the void tool could never write it.
select c.conname as name
from pg_constraint c
where c.conrelid = to_regclass('public.vouchers') and c.contype = 'c'
  and c.conkey = array[(select a.attnum from pg_attribute a
                        where a.attrelid = c.conrelid and a.attname = 'status' and not a.attisdropped)]
  and position('''void''' in pg_get_constraintdef(c.oid)) = 0
order by c.conname;

-- allow_void --
-- The same rule as before, or void: rows that the old rule allowed stay allowed, whatever its form was.
do $$
declare
    found record;
begin
    -- Several migrators take turns: what the one has widened, the next one must see.
    perform pg_advisory_xact_lock(hashtext('agentops.allow_void'));
    for found in
        select c.conname, pg_get_expr(c.conbin, c.conrelid) as rule
        from pg_constraint c
        where c.conrelid = to_regclass('public.vouchers') and c.contype = 'c'
          and c.conkey = array[(select a.attnum from pg_attribute a
                                where a.attrelid = c.conrelid and a.attname = 'status' and not a.attisdropped)]
          and position('''void''' in pg_get_constraintdef(c.oid)) = 0
    loop
        execute format('alter table public.vouchers drop constraint %I, add constraint %I check (%s or status = ''void'')',
                       found.conname, found.conname, found.rule);
    end loop;
end $$;

-- tables --
-- The public tables that the functions use, and which of their columns an existing stack lacks.
select w.name, to_regclass('public.' || w.name) is not null as present,
       array(select c from unnest(w.columns) c
             where not exists (select from information_schema.columns i
                               where i.table_schema = 'public' and i.table_name = w.name and i.column_name = c)) as missing
from (values
    ('profiles', array['user_id', 'whatsapp_e164', 'display_name']),
    ('vouchers', array['id', 'code_5', 'amount_minor', 'currency', 'status', 'user_id', 'whatsapp_e164', 'policy_number',
                       'qr_payload', 'issued_at', 'redeemed_at', 'notes', 'created_at', 'updated_at'])
) as w (name, columns)
order by w.name;

-- server_version --
select current_setting('server_version') as version;

-- wall_missing --
select agentops.wall_missing() as why;

-- owners_wall_missing --
-- As agentops.wall_missing(), but about the user who owns our schema, whoever asks: a hosted project's database is read
-- as a user of its own, who never does anything for a customer.
select case
    when r.oid is null then 'the role agentops_agent does not exist'
    when not pg_has_role(o.oid, r.oid, case when current_setting('server_version_num')::int >= 160000
                                            then 'SET' else 'MEMBER' end)
        then 'the database user ' || o.rolname || ' may not act as agentops_agent'
    when exists (select from agentops.wall_rules() w join pg_class c on c.oid = to_regclass(w.name)
                 where not c.relrowsecurity
                    or not exists (select from pg_policy p
                                   where p.polrelid = c.oid and p.polname = 'agentops_only_own'))
        then 'row-level security does not stand on every table'
    when not has_table_privilege(r.oid, 'public.vouchers', 'insert')
        then 'agentops_agent may not write vouchers'
end as why
from pg_class m join pg_roles o on o.oid = m.relowner left join pg_roles r on r.rolname = 'agentops_agent'
where m.oid = to_regclass('agentops.migrations');

-- build_wall --
select agentops.build_wall() as why;
