-- bounds --
select set_config('statement_timeout', %(milliseconds)s, true),
       set_config('lock_timeout', %(milliseconds)s, true),
       set_config('idle_in_transaction_session_timeout', %(milliseconds)s, true);

-- behind_the_wall --
-- The transaction's statements are a customer's: row-level security shows them their own rows only. Where the database
-- user may not build or take this wall (`health` says so), the policy in the program stands alone.
select set_config('agentops.principal', %(phone)s, true),
       set_config('agentops.actor', %(actor)s, true),
       set_config('statement_timeout', %(milliseconds)s, true),
       set_config('lock_timeout', %(milliseconds)s, true),
       set_config('idle_in_transaction_session_timeout', %(milliseconds)s, true),
       set_config('role', case when agentops.wall_missing() is null then 'agentops_agent'
                               else current_setting('role') end, true);

-- barrier --
select pg_advisory_xact_lock_shared(%(key)s::bigint);
