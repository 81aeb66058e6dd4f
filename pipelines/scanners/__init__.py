"""The scanners: one port (``port``), one file for each."""
