"""The command `hcc-tace`. The library never imports this package."""
