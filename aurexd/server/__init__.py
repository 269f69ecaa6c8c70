"""The shell around the sessions: one port for WebSocket and HTTP, and what is said over it."""
