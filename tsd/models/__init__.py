"""What is served, before it runs: archives, their settings, the desired state on disk."""
