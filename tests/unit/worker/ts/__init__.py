"""The `ts` package, module by module."""
