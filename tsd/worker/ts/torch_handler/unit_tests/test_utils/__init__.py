"""Stand-ins for what the server gives a handler."""
