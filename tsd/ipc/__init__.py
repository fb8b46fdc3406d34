"""The bridge between daemon and worker: notices, shared memory, and what stands in it."""
