"""What the commands of `sbitools.cli` do that no Python call does."""
