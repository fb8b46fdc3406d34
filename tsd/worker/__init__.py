"""The other side: the fork server and its workers. The only folder that imports torch."""
