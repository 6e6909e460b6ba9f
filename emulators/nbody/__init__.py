"""N-body fields: a particle-mesh reference, Lagrangian perturbation theory and their emulator."""
