"""``scan.licences`` of ``modelport.yaml``: which licences may be installed.

Licences are named by the SPDX licence list (https://spdx.org/licenses/). By default nothing is denied: the
scanner counts, and a release manager who has read the counts writes the policy.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from pipelines.config_values import Section, problem

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _listed(text: str) -> str:
    """One licence as the SPDX list spells it: an id, an id with its exception, a LicenseRef, or a glob."""
    from pipelines.scanners.licence_names import (  # noqa: PLC0415  a list of 700, for those who name one
        from_expression,
    )

    if "*" in text:
        return _glob(text)
    if re.search(r"\s(and|or)\s|[()]", text, re.IGNORECASE):
        hint = "name each licence by itself: of an OR one allowed branch is enough, of an AND all have to be"
        raise problem("licence", f'"{text}" is more than one licence', hint)
    known = from_expression(text)
    if not known:
        hint = _nearest(text) or "see https://spdx.org/licenses/; what isn't there is LicenseRef-SOMETHING"
        raise problem("licence", f'"{text}" is not on the SPDX licence list', hint)
    return known


def _glob(text: str) -> str:
    from pipelines.scanners.licence_names import spdx_ids  # noqa: PLC0415

    known = any(fnmatchcase(one.lower(), text.lower()) for one in spdx_ids())
    if not known and not text.lower().startswith("licenseref-"):
        hint = 'a glob is like "AGPL-*" or "GPL-3.0-*"'
        raise problem("licence", f'no licence of the SPDX list is like "{text}"', hint)
    return text


def _nearest(text: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only on the way to an error

    from pipelines.scanners.licence_names import spdx_ids  # noqa: PLC0415

    ids = {one.lower(): one for one in spdx_ids()}
    near = get_close_matches(text.lower(), ids, n=1)
    return f'did you mean "{ids[near[0]]}"?' if near else ""


def _expression(text: str) -> str:
    from pipelines.scanners.licence_names import from_expression  # noqa: PLC0415  as above

    known = from_expression(text)
    if not known:
        hint = 'write it like "MIT" or "Apache-2.0 OR BSD-3-Clause"'
        raise problem("licence", f'"{text}" is not an SPDX licence expression', hint)
    return known


Licence = Annotated[_Text, AfterValidator(_listed)]
"""One licence of the SPDX list, "LicenseRef-…", or a glob of them like "AGPL-*"."""


class Licences(Section):
    """Which licences may be installed. A denied one, or with "allow" one that isn't in it, is "high"."""

    allow: tuple[Licence, ...] = ()
    """The only licences that may be installed, by their SPDX ids or globs; empty: all that aren't denied."""
    deny: tuple[Licence, ...] = ()
    """Licences that may not be installed, like "AGPL-*"."""
    unknown: Literal["warn", "block"] = "warn"
    """What a package without a licence that can be told means: a "low" finding, or a "high" one."""
    judge: tuple[Literal["model", "python", "os"], ...] = Field(
        default=("model", "python", "os"), min_length=1
    )
    """Whose licences are judged: the model's own, the Python packages', the operating system's."""
    ignore: tuple[_Text, ...] = ()
    """Globs of packages that aren't judged, like "linux-libc-dev"."""
    declared: dict[str, Annotated[_Text, AfterValidator(_expression)]] = Field(default_factory=dict)
    """Package to SPDX expression, where somebody has read what the package itself doesn't say."""
