"""What people see while a session runs: lines for a log, a live view for a terminal."""
