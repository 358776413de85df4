"""Whether the files on disk are complete and unaltered."""
