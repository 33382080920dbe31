"""The functions, one self-contained module per slug: `handle(request, stack)`, and `work(job, stack)` if it queues.

`ai-create-voucher` is the module `ai_create_voucher`. They never import each other; what they share is in `agent`.
"""
