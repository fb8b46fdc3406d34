"""Names of the wire between TorchServe's server and its workers that handlers import."""
