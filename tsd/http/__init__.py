"""HTTP/1.1 over asyncio transports; knows nothing of models."""
