"""Mirrors torchserve/: what the command decides, without a process."""
