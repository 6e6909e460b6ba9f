"""Emulators of expensive simulators, one folder for each system."""
