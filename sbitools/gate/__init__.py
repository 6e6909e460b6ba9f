"""The gate: what users pass is checked once, where it enters."""
