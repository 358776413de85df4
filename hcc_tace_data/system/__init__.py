"""Files, processes, folders and other services of the operating system."""
