"""The `ts` package that TorchServe archives import: tsd's own, with TorchServe's names.

It exists only in workers, under the name `ts`. The version is that of the interface it offers."""

__version__ = "0.12.0"
