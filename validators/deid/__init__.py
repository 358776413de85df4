"""What de-identification rules need: identifiers, word lists, masking."""
