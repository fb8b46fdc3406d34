"""Handlers of models over several processes."""
