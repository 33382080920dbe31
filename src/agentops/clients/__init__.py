"""The stack's three providers: OpenAI, WhatsApp (Meta's Graph), Slack.

Thin on purpose: one call is one request, never retried here, because only the caller knows whether a second one could
cost money twice. Each raises agentops's own errors, and no key, token, webhook URL or phone number is in their words.
"""
