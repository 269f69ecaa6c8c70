"""The control socket: how the running daemon is looked at and steered, and the client's end of it."""
