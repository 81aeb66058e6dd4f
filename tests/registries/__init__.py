"""Registries that go wrong as they are told: a fault-injecting proxy before a real one, and the clouds' ways.

``python -m tests.registries --help`` starts one by hand, from the root of the repository.
"""
