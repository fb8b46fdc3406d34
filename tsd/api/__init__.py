"""What a request means, whatever door it came by."""
