"""What tests share: a daemon on loopback, model makers, waiting for events."""
