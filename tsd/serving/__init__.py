"""From a model's name to a batch on a worker, and back with the answers."""
