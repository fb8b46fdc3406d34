"""What a real TorchServe 0.12.0 answered, and the means to ask any server the same."""
