"""From what packages say of their licence to SPDX expressions; what says no one licence stays unknown.

The names are those of trove classifiers (https://pypi.org/classifiers/), of Debian's machine-readable
copyright files (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/, "License short name"), of
Fedora's old short names, and what Python packages write into ``License``. A family ("BSD License") is no
licence: two of its members may differ in what the policy says of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from packaging.licenses import (
    InvalidLicenseExpression,
    _spdx,  # the list itself has no public name
    canonicalize_license_expression,
)

LIST_VERSION: Final[str] = _spdx.VERSION
"""Of the SPDX licence list that names are held against."""

LONGEST: Final = 200
"""A ``License`` field longer than this is a licence's text."""

NAMES: Final = {
    # trove classifiers
    "apache software license": "Apache-2.0",
    "mit license": "MIT",
    "mit no attribution license (mit-0)": "MIT-0",
    "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mozilla public license 1.1 (mpl 1.1)": "MPL-1.1",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
    "zope public license": "ZPL-2.1",
    "boost software license 1.0 (bsl-1.0)": "BSL-1.0",
    "universal permissive license (upl)": "UPL-1.0",
    "zlib/libpng license": "Zlib",
    "historical permission notice and disclaimer (hpnd)": "HPND",
    "eclipse public license 2.0 (epl-2.0)": "EPL-2.0",
    "cc0 1.0 universal (cc0 1.0) public domain dedication": "CC0-1.0",
    "european union public licence 1.2 (eupl 1.2)": "EUPL-1.2",
    "gnu general public license v2 (gplv2)": "GPL-2.0-only",
    "gnu general public license v2 or later (gplv2+)": "GPL-2.0-or-later",
    "gnu general public license v3 (gplv3)": "GPL-3.0-only",
    "gnu general public license v3 or later (gplv3+)": "GPL-3.0-or-later",
    "gnu lesser general public license v2 (lgplv2)": "LGPL-2.0-only",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.0-or-later",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "gnu affero general public license v3": "AGPL-3.0-only",
    "gnu affero general public license v3 or later (agplv3+)": "AGPL-3.0-or-later",
    # "If the program does not specify a version number, you may choose any version ever published."
    "gpl": "GPL-1.0-or-later",
    "lgpl": "LGPL-2.0-or-later",
    "agpl": "AGPL-1.0-or-later",
    "gnu gpl": "GPL-1.0-or-later",
    "gnu lgpl": "LGPL-2.0-or-later",
    "gnu general public license (gpl)": "GPL-1.0-or-later",
    "gnu library or lesser general public license (lgpl)": "LGPL-2.0-or-later",
    # what Python packages write
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "the mit license": "MIT",
    "mit licence": "MIT",
    "expat": "MIT",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "isc license": "ISC",
    "iscl": "ISC",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "psf license": "PSF-2.0",
    "python": "PSF-2.0",
    "mpl 2.0": "MPL-2.0",
    "mpl2": "MPL-2.0",
    "mozilla public license 2.0": "MPL-2.0",
    "unlicense": "Unlicense",
    "cc0": "CC0-1.0",
    "wtfpl": "WTFPL",
    # Debian's short names, and Fedora's old ones
    "perl": "GPL-1.0-or-later OR Artistic-1.0-Perl",
    "artistic": "Artistic-1.0-Perl",
    "zlib": "Zlib",
    "w3c": "W3C",
    "boost-1.0": "BSL-1.0",
    "python-2.0": "Python-2.0",
    "psf-2": "PSF-2.0",
    "cc0-1": "CC0-1.0",
    "bsd-2-clause-freebsd": "BSD-2-Clause",
    "mpl-1": "MPL-1.0",
    "mpl-2": "MPL-2.0",
    "openldap": "OLDAP-2.8",
    "asl 2.0": "Apache-2.0",
    "asl-2.0": "Apache-2.0",
    "mplv2.0": "MPL-2.0",
    "openssl": "OpenSSL",
    "vim": "Vim",
    "curl": "curl",
    "x11": "X11",
}

EXCEPTIONS: Final = {
    "openssl exception": "openvpn-openssl-exception",
    "gcc exception": "GCC-exception-3.1",
    "gcc runtime library exception": "GCC-exception-3.1",
    "autoconf exception": "Autoconf-exception-2.0",
    "bison exception": "Bison-exception-2.2",
    "bison exception 2.2": "Bison-exception-2.2",
    "libtool exception": "Libtool-exception",
    "classpath exception": "Classpath-exception-2.0",
    "font exception": "Font-exception-2.0",
    "linux-syscall-note": "Linux-syscall-note",
}
"""An exception that isn't here can only be in the licensee's favour: the licence is judged without it."""

_GNU = re.compile(r"(AGPL|LGPL|GPL|GFDL)-?v?(\d(?:\.\d)?)(?:\.0)?(\+|-only|-or-later)?", re.IGNORECASE)
_DEPRECATED = re.compile(r"\b(AGPL|LGPL|GPL|GFDL)-(\d\.\d)(\+)?(?![-.\w])")
_JOINTS: Final = tuple(
    (re.compile(joint, re.IGNORECASE), word)
    for joint, word in (
        (r",\s*and\s+", "AND"),
        (r",\s*or\s+", "OR"),
        (r"\s+or\s+", "OR"),
        (r"\s+and\s+|\s+&\s+", "AND"),
    )
)


def spdx_ids() -> list[str]:
    """The ids of the SPDX licence list."""
    return [one["id"] for one in _spdx.LICENSES.values()]


def from_expression(text: str) -> str:
    """``text`` as the SPDX expression that it claims to be; "" when it is none (SPDX 2.3, annex D)."""
    try:
        return undated(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return ""


def undated(expression: str) -> str:
    """With the GNU ids that the list calls deprecated in their new spelling: ``GPL-2.0+`` says "or later"."""
    return _DEPRECATED.sub(lambda one: f"{one[1]}-{one[2]}-{'or-later' if one[3] else 'only'}", expression)


@lru_cache(maxsize=2048)  # a distribution has a few dozen, in hundreds of packages
def from_name(text: str) -> str:
    """The SPDX expression of one licence's name as people write it, or ""."""
    name = " ".join(text.split())
    if not name or len(name) > LONGEST:
        return ""
    known = NAMES.get(name.lower()) or _gnu(name) or from_expression(name)
    base, with_, exception = re.sub(r"\bwith\b", "WITH", name, count=1).partition(" WITH ")
    return known or (_with_exception(from_name(base), exception) if with_ else "")


def _with_exception(licence: str, exception: str) -> str:
    known = EXCEPTIONS.get(exception.lower().strip())
    return (from_expression(f"{licence} WITH {known}") if known and " " not in licence else "") or licence


def _gnu(name: str) -> str:
    """Debian's ``GPL-2+``, Fedora's ``GPLv2+``. Without a version ("GPL") it isn't one licence."""
    match = _GNU.fullmatch(name)
    if match is None:
        return ""
    number = match[2] if "." in match[2] else f"{match[2]}.0"
    suffix = "or-later" if match[3] in ("+", "-or-later") else "only"
    return from_expression(f"{match[1].upper()}-{number}-{suffix}")


def from_names(text: str, one: Callable[[str], str] = from_name) -> str:
    """The expression of names joined by "and", "or" and commas, as Debian and Fedora write them.

    "" where any of them is unknown. "and" binds closer than "or"; a comma before either makes it the looser
    one (DEP-5, "Syntax"). What a single name means is ``one``'s to say.
    """
    whole = from_name(text)
    if whole or "(" in text:
        return whole
    for joint, word in _JOINTS:
        parts = [part for part in joint.split(text.strip()) if part.strip()]
        if len(parts) > 1:
            return joined((from_names(part, one) for part in parts), word)
    return one(text)


def name_or_reference(text: str) -> str:
    """As ``from_name``; a name that only its own file explains becomes a LicenseRef (SPDX 2.3, annex D.3)."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")
    return from_name(text) or (f"LicenseRef-{words}" if words and len(text) <= LONGEST else "")


def joined(expressions: Iterable[str], word: str = "AND") -> str:
    """Several expressions as one, each once; "" when any of them is unknown."""
    parts = list(dict.fromkeys(expressions))
    if not parts or not all(parts):
        return ""
    if len(parts) == 1:
        return parts[0]
    return f" {word} ".join(f"({part})" if _is_compound(part) else part for part in parts)


def _is_compound(expression: str) -> bool:
    return " AND " in expression or " OR " in expression
