"""Models over several processes, by the libraries that TorchServe's examples use."""
