"""The agent: its tools, the policy that guards them, and what they share on the way in.

    functions.<slug>.handle → answering (HTTP) ┐
    the chat loop, the voice webhook ──────────┴→ tool.Tool.call → policy → tools.<name> → store

Whoever calls, the tool decides by who they are and not by what a model says.
"""
