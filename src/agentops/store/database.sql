-- bounds --
select set_config('statement_timeout', %(milliseconds)s, true),
       set_config('lock_timeout', %(milliseconds)s, true),
       set_config('idle_in_transaction_session_timeout', %(milliseconds)s, true);

-- barrier --
select pg_advisory_xact_lock_shared(%(key)s::bigint);
