"""What is known of the collection without its files: catalogue, series table, splits."""
