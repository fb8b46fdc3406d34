"""Runtimes: the interpreters that have torch, and what is known of them."""
