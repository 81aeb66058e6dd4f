"""Faults of the embedded engine: kills at random moments, and what must hold afterwards."""
