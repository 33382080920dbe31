"""The server: web processes that answer, worker processes that think, one light process that keeps them alive.

    commands.up / serve → supervisor ──socket, settings over a pipe──> process --role web     app → loader → handle
                                                                      process --role worker  worker → loader → work
    each process: settings_watch (LISTEN) → Stack → context · heartbeat · log_writer

The processes share PostgreSQL and the listening socket, nothing else.
"""
