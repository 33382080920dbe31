"""`python -m agentops` is `agentops`."""

from agentops.main import main

main()
