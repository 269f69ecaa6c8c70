"""Who owns which state, and who tells whom.

The data goes one way: sources → aggregator → hub → sessions, and aggregator → persister → store. Each of them
is one actor with one inbox; what it may be told or asked stands in `messages`. `trio_actor` and `worker` are
the two kinds of actor, `address` and `inbox` are what both are reached through, and `supervisor` keeps them
alive.
"""
