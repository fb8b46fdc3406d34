"""What `tsctl bench` is made of: a load, the model under it, the search, and the picture."""
