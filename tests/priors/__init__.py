"""Tests of priors that are more than one number."""
