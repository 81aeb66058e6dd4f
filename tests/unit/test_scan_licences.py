"""Licences: what packages say, as SPDX expressions; what a policy says of those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.config import Model
from pipelines.config_inventory import InventorySettings
from pipelines.config_licences import Licences as Section
from pipelines.in_engine import debian_copyright
from pipelines.scanners.contents import Contents, OsPackage, PythonPackage, WeightFile
from pipelines.scanners.licence_names import from_expression, from_names, name_or_reference
from pipelines.scanners.licence_policy import LicencePolicy, Standing
from pipelines.scanners.licences import Licensed, judged, licensed, of_model
from pipelines.scanners.port import ScannerResult

DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: x
License: Apache-2.0

Files: *
Copyright: 2001 a
License: GPL-2+ or Artistic
 text of it
 .
 Files: not-a-field

Files: lib/a.c
 lib/b.c
Copyright: b
License: Expat

Files: debian/*
Copyright: c
License: GPL-3+

License: Expat
 Permission is hereby granted
"""


@pytest.mark.parametrize(
    ("said", "expression"),
    [
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPLv2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GPL", "GPL-1.0-or-later"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("GPL-2+ with Autoconf exception", "GPL-2.0-or-later WITH Autoconf-exception-2.0"),
        ("GPL-3+ with some exception of ours", "GPL-3.0-or-later"),
        ("Artistic or GPL-1+", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
        (
            "GPL-2+ or Artistic-2.0, and BSD-3-clause",
            "(GPL-2.0-or-later OR Artistic-2.0) AND BSD-3-Clause",
        ),
        ("GPL-2+ or Expat and ISC", "GPL-2.0-or-later OR (MIT AND ISC)"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("GNU Affero General Public License v3", "AGPL-3.0-only"),
        ("mit or (apache-2.0 and bsd-3-clause)", "MIT OR (Apache-2.0 AND BSD-3-Clause)"),
        ("BSD License", ""),
        ("Dual License", ""),
        ("", ""),
        ("x" * 300, ""),
    ],
)
def test_names_become_expressions_and_a_family_is_unknown(said: str, expression: str) -> None:
    assert from_names(said) == expression


def test_a_name_that_only_its_own_file_explains_is_a_reference() -> None:
    assert from_names("GPL-2+ and public domain", name_or_reference) == (
        "GPL-2.0-or-later AND LicenseRef-public-domain"
    )
    assert from_expression("no such licence") == ""


POLICY = LicencePolicy(
    allow=("MIT", "Apache-2.0", "GPL-2.0-only WITH Classpath-exception-2.0", "LicenseRef-ours"),
    deny=("AGPL-*", "GPL-*"),
)


@pytest.mark.parametrize(
    ("expression", "standing", "because"),
    [
        ("MIT", Standing.ALLOWED, "MIT"),
        ("MIT OR AGPL-3.0-only", Standing.ALLOWED, "MIT"),
        ("MIT AND AGPL-3.0-only", Standing.DENIED, "AGPL-3.0-only"),
        ("AGPL-3.0-only OR ISC", Standing.NOT_LISTED, "ISC"),
        ("MIT OR ISC AND AGPL-3.0-only", Standing.ALLOWED, "MIT"),
        ("(MIT OR ISC) AND AGPL-3.0-only", Standing.DENIED, "AGPL-3.0-only"),
        ("(MIT OR GPL-3.0-only) AND (Apache-2.0 OR ISC)", Standing.ALLOWED, "MIT"),
        ("Apache-2.0 WITH LLVM-exception", Standing.ALLOWED, "Apache-2.0 WITH LLVM-exception"),
        (
            "GPL-2.0-only WITH Classpath-exception-2.0",
            Standing.ALLOWED,
            "GPL-2.0-only WITH Classpath-exception-2.0",
        ),
        (
            "GPL-3.0-only WITH Classpath-exception-2.0",
            Standing.DENIED,
            "GPL-3.0-only WITH Classpath-exception-2.0",
        ),
        ("LGPL-2.1-only", Standing.NOT_LISTED, "LGPL-2.1-only"),
        ("LicenseRef-ours", Standing.ALLOWED, "LicenseRef-ours"),
        ("MIT AND LicenseRef-theirs", Standing.UNKNOWN, "LicenseRef-theirs"),
        ("LicenseRef-theirs AND GPL-2.0-only", Standing.DENIED, "GPL-2.0-only"),
    ],
)
def test_of_an_or_the_best_branch_counts_and_of_an_and_all(
    expression: str, standing: Standing, because: str
) -> None:
    assert POLICY.standing(expression) == (standing, because)


def test_without_an_allow_list_all_that_is_not_denied_is_allowed() -> None:
    policy = LicencePolicy(deny=("AGPL-*",))
    assert policy.standing("ISC AND GPL-3.0-only")[0] is Standing.ALLOWED
    assert policy.standing("AGPL-3.0-or-later")[0] is Standing.DENIED


@pytest.mark.parametrize("broken", ["MIT OR", "(MIT", "MIT MIT", ") MIT"])
def test_a_broken_expression_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match="licence expression"):
        POLICY.standing(broken)


def test_a_copyright_file_names_the_licences_of_what_is_installed() -> None:
    assert debian_copyright.licences(DEP5) == ["Expat", "GPL-2+ or Artistic"]
    assert debian_copyright.licences(DEP5.replace("\n\n", "\n \n\n")) == ["Expat", "GPL-2+ or Artistic"]
    assert debian_copyright.licences(DEP5.partition("\n\n")[0]) == ["Apache-2.0"]
    assert debian_copyright.licences("This is free software; GPL, see /usr/share/common-licenses\n") == []
    assert debian_copyright.licences(DEP5.replace("License: Expat\n\nFiles: d", "\nFiles: d")) == []


def test_the_copyright_file_is_found_by_the_packages_name(tmp_path: Path) -> None:
    directory = tmp_path / "usr/share/doc/x"
    directory.mkdir(parents=True)
    (directory / "copyright").write_text(DEP5)
    found = ["Expat", "GPL-2+ or Artistic"], "/usr/share/doc/x/copyright"
    assert debian_copyright.licences_of(tmp_path, "x") == found
    assert debian_copyright.licences_of(tmp_path, "y") == ([], "")


def python(name: str, expression: str = "", licence: str = "", *classifiers: str) -> PythonPackage:
    path = f"/site-packages/{name}-1.dist-info"
    return PythonPackage(name, "1", path, expression, licence, classifiers, debian=False)


def deb(name: str, *licences: str) -> OsPackage:
    file = f"/usr/share/doc/{name}/copyright" if licences else ""
    return OsPackage(name, "1", "amd64", name, "1", "", "deb", licences, file)


def contents(*packages: PythonPackage | OsPackage, **more: Any) -> Contents:
    given: dict[str, Any] = {"other_package_database": "", "problems": (), "weights": ()} | more
    return Contents(
        os_release={},
        os_packages=tuple(one for one in packages if isinstance(one, OsPackage)),
        python=tuple(one for one in packages if isinstance(one, PythonPackage)),
        **given,
    )


IMAGE = contents(
    python("a", "mit OR Apache-2.0"),
    python("b", "", "BSD-3-Clause", "BSD License"),
    python("c", "", "", "MIT License", "GNU Affero General Public License v3"),
    python("d", "", "BSD"),
    deb("bash", "GPL-3+", "public-domain"),
    deb("old"),
)


def result(image: Contents = IMAGE, **section: Any) -> ScannerResult:
    return judged(list(licensed(image)), image, Section.model_validate(section))


def test_by_default_licences_are_counted_and_nothing_is_found() -> None:
    told = result()
    assert (told.audited, told.findings, told.looked_at) == (True, (), 6)
    assert told.note == "4 licences, 2 unknown"
    assert told.data.startswith("SPDX licence list 3.")
    assert len(told.version) == 12


def test_what_is_denied_and_what_is_unknown_are_findings_with_their_file() -> None:
    found = {one.subject: one for one in result(deny=["AGPL-*", "GPL-*"]).findings}
    assert {name: (one.severity, one.id) for name, one in found.items()} == {
        "c": ("high", "MIT AND AGPL-3.0-only"),
        "d": ("low", "unknown"),
        "bash": ("high", "GPL-3.0-or-later AND LicenseRef-public-domain"),
        "old": ("low", "unknown"),
    }
    assert found["c"].where == "/site-packages/c-1.dist-info/METADATA"
    assert found["c"].title == "AGPL-3.0-only is denied (of MIT AND AGPL-3.0-only)"
    assert found["bash"].where == "/usr/share/doc/bash/copyright"
    assert found["d"].title == "its licence can't be told: it says BSD"
    assert "declared: {d: …}" in found["d"].hint


def test_unknown_can_block_and_what_somebody_has_read_is_known() -> None:
    found = result(unknown="block", declared={"d": "bsd-3-clause", "old": "MIT"}).findings
    assert [(one.subject, one.severity) for one in found] == [("bash", "high")]
    assert found[0].title == "its licence can't be told: it says LicenseRef-public-domain"


def test_an_allow_list_of_python_alone_leaves_the_rest_unjudged() -> None:
    told = result(allow=["MIT", "BSD-3-Clause"], judge=["python"], ignore=["D"])
    assert [(one.subject, one.title.partition(" (")[0]) for one in told.findings] == [
        ("c", "AGPL-3.0-only is not in the allow list")
    ]
    assert told.looked_at == 3


def own_model(directory: Path, **more: Any) -> Model:
    return Model(name="m", directory=directory, file=directory / "modelport.yaml", **more)


def test_the_models_own_licence_is_judged_at_its_line_in_the_repository(tmp_path: Path) -> None:
    (model,) = of_model(own_model(tmp_path, license="cc-by-nc-4.0"), ())
    told = judged([model], contents(), Section.model_validate({"deny": ["CC-BY-NC-*"]}))
    assert [(one.subject, one.id, one.file) for one in told.findings] == [
        ("m", "CC-BY-NC-4.0", "modelport.yaml")
    ]
    nothing = Licensed("model", "m", "", "", "", "modelport.yaml")
    (finding,) = judged([nothing], contents(), Section.model_validate({"unknown": "block"})).findings
    assert (finding.title, finding.hint) == (
        "it names no licence",
        "name it under license: in modelport.yaml",
    )


def test_weights_with_a_licence_of_their_own_are_judged_by_it(tmp_path: Path) -> None:
    weights = (
        WeightFile("/app/a.onnx", 1, "ab", "onnx", facts={"licence": "cc-by-nc-4.0"}),
        WeightFile("/app/b.safetensors", 1, "ab", "safetensors", card={"licence": "llama3"}),
        WeightFile("/app/c.npz", 1, "ab", "npz"),
    )
    section = {"weights": [{"files": "b.safetensors", "license": "Apache-2.0"}]}
    configured = own_model(tmp_path, license="MIT", inventory=InventorySettings.model_validate(section))
    policy = Section.model_validate({"deny": ["CC-BY-NC-*"], "unknown": "block"})
    found = judged([*of_model(own_model(tmp_path, license="MIT"), weights)], contents(), policy).findings
    assert [(one.subject, one.id, one.where) for one in found] == [
        ("/app/a.onnx", "CC-BY-NC-4.0", "/app/a.onnx"),
        ("/app/b.safetensors", "unknown", "/app/b.safetensors"),
    ]
    found = judged([*of_model(configured, weights)], contents(), policy).findings
    assert [one.subject for one in found] == ["/app/a.onnx"]


def test_a_database_that_is_not_read_is_could_not_look() -> None:
    told = result(contents(other_package_database="rpm (ndb)"))
    assert (told.audited, told.reason) == (False, "not read: the rpm (ndb) package database is not read")
    assert result(contents(other_package_database="rpm (ndb)"), judge=["python"]).audited


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"deny": ["APGL-3.0"]}, "is not on the SPDX licence list"),
        ({"allow": ["MIT OR ISC"]}, "is more than one licence"),
        ({"deny": ["NOPE-*"]}, "no licence of the SPDX list is like"),
        ({"declared": {"a": "BSD"}}, "is not an SPDX licence expression"),
        ({"judge": []}, "at least 1 item"),
    ],
)
def test_a_policy_with_a_licence_that_does_not_exist_is_refused(section: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Section.model_validate(section)


def test_a_policy_is_spelt_as_the_list_spells_it() -> None:
    section = Section.model_validate({"allow": ["mit", "gpl-2.0+", "licenseref-x*"], "deny": ["agpl-*"]})
    assert section.allow == ("MIT", "GPL-2.0-or-later", "licenseref-x*")
