"""The instrument: scan, gains, noise, sky and binned maps."""
