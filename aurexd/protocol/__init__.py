"""What a client and aurexd say to each other (docs/protocol.md): messages in, messages out, no I/O.

`messages` is the catalogue, `data` and `alerts` what its messages carry, `channels` and `codes` its names and
numbers. `codec` turns messages into frames and back, `compose` makes the server's, `connection` is the state
machine of a session. `schema` and `manual` publish all of it from the types.
"""
