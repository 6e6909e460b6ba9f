"""Scattering covariances of HEALPix maps."""
