"""What clients see as EXEC_ERROR: a command's end, with everything that the payload holds."""

from __future__ import annotations


class CommandFailure(Exception):
    """A command or a service's command ended as it should not. All texts are masked."""

    def __init__(
        self, message: str, *, args: tuple[str, ...], exit_code: int, stdout: str, stderr: str
    ) -> None:
        super().__init__(message)
        self.step_args = args
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
