"""The command `torchserve`: TorchServe's options, files and words; the server is tsd."""
