"""Facts about files that several rules need, each gathered once."""
