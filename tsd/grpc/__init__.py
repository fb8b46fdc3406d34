"""gRPC: TorchServe's services, the Open Inference Protocol, health and reflection."""
