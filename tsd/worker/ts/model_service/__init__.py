"""Handlers in the style of MXNet's model server, kept for old archives."""
