"""Particles on a lattice: vector networks, symmetries, mesh densities and their losses."""
