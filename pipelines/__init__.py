"""Modelport: a model from its commit to the production registries, on either engine."""
