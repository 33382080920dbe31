-- What the tour checks for itself.

-- issued --
select voucher_id::text from agentops.ledger where correlation_id = %(correlation_id)s and kind = 'issue';

-- told --
-- Events are stored a moment after they happen; the last one of an answered message tells that all are there.
select exists (
    select from agentops.logs
    where correlation_id = %(correlation_id)s and event = 'ai.whatsapp.message.success'
) as told;
