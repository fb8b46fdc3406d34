"""What handlers call while they handle: timing, imports, intermediate answers."""
