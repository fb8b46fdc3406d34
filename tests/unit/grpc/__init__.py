"""Mirrors tsd/grpc."""
