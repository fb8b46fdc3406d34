"""tsd: the PyTorch model server of a Linux machine. Floor by floor: see ARCHITECTURE.md."""
