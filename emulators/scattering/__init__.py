"""Sky maps: time-ordered data, scattering covariances and their emulator."""
