"""Statistics, pictures and assessment of sets of maps."""
