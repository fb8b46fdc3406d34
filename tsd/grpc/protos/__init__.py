"""The messages and services as .proto files, and what `make proto` makes of them."""
