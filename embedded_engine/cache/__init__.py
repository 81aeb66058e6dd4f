"""The cache that travels, and what it costs on this machine: export, import, gc, info, reset."""
