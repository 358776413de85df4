"""Writing the collection in formats that others train from."""
