"""A real daemon on loopback with real workers."""
