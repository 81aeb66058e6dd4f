"""All themes, found by their modules' names."""

from __future__ import annotations

import importlib
from pathlib import Path

from .case import Theme


def themes() -> list[Theme]:
    """The theme of each ``test_*`` module beside this one that has cases."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    return [module.THEME for module in modules if hasattr(module, "THEME")]
