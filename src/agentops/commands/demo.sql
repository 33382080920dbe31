-- What the tour checks for itself.

-- issued --
select voucher_id::text from agentops.ledger where correlation_id = %(correlation_id)s and kind = 'issue';
