"""The default handlers, and the class that most handlers extend."""
