"""The HTTP server measured: against the scorer in this process, overloaded, left, and for long."""
