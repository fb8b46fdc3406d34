"""TorchServe's config.properties: how it is written, and what its keys mean as tsd's settings."""
