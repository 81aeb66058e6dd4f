"""The pieces that ``modelport.yaml`` is made of: frozen sections, named files, secret references."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from pipelines.errors import ConfigError


class Section(BaseModel):
    """A mapping of ``modelport.yaml``: frozen, unknown keys refused, input never repeated in an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,
    )


def problem(kind: str, message: str, hint: str = "") -> PydanticCustomError:
    """An error that a validator raises: ``message`` and ``hint`` are shown to the user as they are."""
    return PydanticCustomError(f"modelport_{kind}", "{text}", {"text": message, "hint": hint})


class SecretRef(str):
    """Where a secret is, never the secret: ``env://NAME``, ``file://PATH``, ``cmd://COMMAND``, as in Dagger.

    The text is safe to print and can be handed to ``dag.secret()`` as it is.
    """

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        r"(env://[A-Za-z_][A-Za-z0-9_]*|file://.+|cmd://.+)", re.DOTALL
    )

    @classmethod
    def parse(cls, text: object) -> Self:
        """``text`` as a reference; anything else is refused and not repeated: it may be the secret."""
        if isinstance(text, str) and cls.pattern.fullmatch(text):
            return cls(text)
        raise problem(
            "secret",
            "a secret has to be a reference, not the secret itself (what is there is not shown)",
            "write env://NAME, file://PATH or cmd://COMMAND; if a real secret was committed here, replace it",
        )

    def resolve(self, environ: Mapping[str, str] | None = None) -> str:
        """The secret. Raises ConfigError, without any part of the value, when it is not to be had.

        A relative file is looked for from the working directory; a command runs in ``sh``. So does Dagger.
        """
        scheme, _, rest = self.partition("://")
        match scheme:
            case "env":
                value = (os.environ if environ is None else environ).get(rest)
                if value is None:
                    raise ConfigError(
                        f"the secret {self} is not set", hint=f"set the environment variable {rest}"
                    )
                return value
            case "file":
                return self._read(Path(rest).expanduser())
            case _:
                return self._run(rest)

    def _read(self, path: Path) -> str:
        try:
            return path.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as err:
            reason = getattr(err, "strerror", None) or "it is not text"
            raise ConfigError(f"the secret {self} can't be read: {reason}", hint=f"is {path} there?") from err

    def _run(self, command: str) -> str:
        try:
            done = subprocess.run(
                ["sh", "-c", command], check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
            )
            text = done.stdout.decode("utf-8").rstrip("\r\n")
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as err:
            raise ConfigError(
                f"the command of the secret {self} gave nothing: {type(err).__name__}", hint="run it by hand"
            ) from None
        if done.returncode != 0 or not text:
            reason = f"exit code {done.returncode}" if done.returncode else "it printed nothing"
            raise ConfigError(f"the command of the secret {self} failed: {reason}", hint="run it by hand")
        return text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validated by ``parse``; in JSON the reference itself."""
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: object) -> JsonSchemaValue:
        """The three accepted forms."""
        return {
            "type": "string",
            "title": "Secret reference",
            "pattern": f"^{cls.pattern.pattern}$",
            "examples": [
                "env://REGISTRY_PASSWORD",
                "file://~/.config/registry-password",
                "cmd://gh auth token",
            ],
        }


def inside(directory: Path, root: Path, name: str) -> Path:
    """``name`` seen from ``directory``, resolved; refused when it leaves ``root``."""
    if Path(name).is_absolute() or name.startswith("~"):
        raise problem(
            "path", f'"{name}" is an absolute path', "name it relative to the directory of modelport.yaml"
        )
    path = (directory / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise problem("path", f'"{name}" is outside the repository', f"only files under {root} can be named")
    return path


def _named(name: str, info: ValidationInfo, *, kinds: tuple[str, ...]) -> str:
    """Hold that a named file is there; a value made in Python has no directory to look in and is taken."""
    context = info.context
    if not isinstance(context, dict) or "directory" not in context:
        return name
    path = inside(context["directory"], context["root"], name)
    wanted = " or ".join(kinds)
    if not path.exists():
        hint = "paths are relative to the directory of modelport.yaml"
        raise problem("path", f'there is no {wanted} "{name}"', _nearest_file(path) or hint)
    if (path.is_dir() and "directory" not in kinds) or (path.is_file() and "file" not in kinds):
        raise problem("path", f'"{name}" is not a {wanted}')
    return name


def _nearest_file(path: Path) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only on the way to an error

    if not path.parent.is_dir():
        return f'there is no directory "{path.parent.name}" either'
    near = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    return f'did you mean "{near[0]}"?' if near else ""


def _file(name: str, info: ValidationInfo) -> str:
    return _named(name, info, kinds=("file",))


def _directory(name: str, info: ValidationInfo) -> str:
    return _named(name, info, kinds=("directory",))


def _either(name: str, info: ValidationInfo) -> str:
    return _named(name, info, kinds=("file", "directory"))


NamedFile = Annotated[str, AfterValidator(_file)]
"""A file, relative to the model's directory, that is there and inside the repository."""
NamedDirectory = Annotated[str, AfterValidator(_directory)]
"""A directory, likewise."""
NamedPath = Annotated[str, AfterValidator(_either)]
"""A file or a directory, likewise."""


def _number_as_text(value: object) -> object:
    """``THREADS: 4`` means ``THREADS: "4"``; a float or a yes/no is not taken, for YAML respells it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


EnvText = Annotated[str, BeforeValidator(_number_as_text, json_schema_input_type=str | int)]
"""The value of a variable: text, or a whole number."""
