"""Where images are kept: one port, one file per kind of registry, and the OCI layout directory."""
