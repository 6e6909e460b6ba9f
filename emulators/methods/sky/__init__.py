"""Maps on the sphere from few of them: scattering covariances, targets and descent to them."""
