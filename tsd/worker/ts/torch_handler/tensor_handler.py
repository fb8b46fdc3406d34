"""What runs bare model files, by a name that an archive can ask for: then settings go with it."""

from tsd.worker import tensor_handler


class TensorHandler(tensor_handler.TensorHandler):
    """Tensors in, tensors out."""
