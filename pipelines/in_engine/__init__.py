"""Programs that run in containers: the standard library only, put in as files, JSON on standard output."""
