"""Where the embedded engine answers otherwise than Dagger's, on purpose, and why: the only such table.

``python -m tests.conformance`` prints it. What is listed has to differ, and in the way listed: a test
fails otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .case import Answer


@dataclass(frozen=True, slots=True)
class Difference:
    """Places of one case's answer, what the embedded engine says there (a pattern), and the reason."""

    case: str
    at: tuple[str, ...]
    ours: str
    reason: str

    def holds(self, ours: Any) -> bool:
        """Whether this is what the embedded engine is expected to say."""
        return re.search(self.ours, ours if isinstance(ours, str) else repr(ours), re.DOTALL) is not None


STRICT = "arguments are checked by the schema's types, so a wrong one is refused before anything runs"
GRAPHQL = "graphql-core's way: the same refusal, told with another place or code; SDKs read the message only"
CONTENT = "results are shared by content, so what a command can't see does not make it run again"
LAZY = "files are looked up when they are used, not when they are named"
FAULT = "a fault of Dagger's engine: "

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "config/env_variables_with_strange_names", ("2",), "^v$", FAULT + "it splits a=b=v at the first ="
    ),
    Difference("config/ports_that_are_none", ("0", "2", "3"), "not between 1 and 65535", "a port is checked"),
    Difference(
        "container_files/with_directory_permissions", ("",), "750 0:0", FAULT + "it ignores the argument here"
    ),
    Difference(
        "container_files/timestamps",
        ("",),
        "315532800",
        "layers have one time, so that digests are reproducible",
    ),
    Difference(
        "directories/entries_outside",
        ("1", "3"),
        "b|no such file",
        FAULT + "`..` leads out of a directory's directory; here a directory ends at itself",
    ),
    Difference("directories/a_bad_glob", ("1",), r"^\[\]$", "an empty pattern matches nothing"),
    Difference("directories/globs", ("!a.txt", "/sub"), "a.txt|sub", "patterns are read as for filters"),
    Difference(
        "directories/filters",
        ("empty pattern",),
        "a.txt",
        "an empty pattern is left out, as in .dockerignore",
    ),
    Difference(
        "directories/filters", ("leading slash",), "dot", "a leading slash is cut off, as in .dockerignore"
    ),
    Difference("directories/without", ("below a file", "root"), r"\[", "what is not there needs no removal"),
    Difference(
        "directories/new_file_and_directory_modes",
        ("d", "deep"),
        "493",
        FAULT + "the default mode of withNewDirectory, 0644, can't be entered; parents are 0755",
    ),
    Difference(
        "directories/diff",
        ("0", "1"),
        "changed",
        FAULT + "equal directories differ by the time they were made",
    ),
    Difference("directories/digests", ("time",), "False", "a time that was given on purpose is content"),
    Difference("directories/exists", ("",), "True", "an empty path is the directory itself"),
    Difference("directories/exists", ("f/x",), "False", "nothing is below a file, which is no error"),
    Difference("errors/a_variable_that_lacks", ("0",), "200", GRAPHQL),
    Difference("errors/type_names", ("body.data", "body.errors"), "Directory|None", LAZY),
    Difference(
        "errors/an_empty_document",
        ("body.errors.0.extensions.code", "body.errors.0.locations"),
        "PARSE|line",
        GRAPHQL,
    ),
    Difference("errors/an_unknown_argument", ("body.errors.0.locations.0.column",), "48", GRAPHQL),
    Difference(
        "errors/an_argument_of_another_type",
        ("body.data", "body.errors", "status"),
        "None|VALIDATION|422",
        STRICT,
    ),
    Difference(
        "errors/an_enum_as_a_string", ("body.data", "body.errors", "status"), "None|VALIDATION|422", STRICT
    ),
    Difference(
        "errors/an_enum_that_is_not",
        ("body.errors.0.extensions", "body.errors.0.locations", "status"),
        "VALIDATION|line|422",
        STRICT,
    ),
    Difference(
        "errors/null_where_it_must_not_be",
        ("body.errors.0.extensions", "body.errors.0.locations", "status"),
        "VALIDATION|line|422",
        STRICT,
    ),
    Difference(
        "errors/an_object_without_a_selection",
        ("body.errors.0.extensions", "body.errors.0.locations", "body.errors.0.path", "status"),
        "VALIDATION|line|None|422",
        STRICT,
    ),
    Difference("errors/a_leaf_with_a_selection", ("body.errors.0.locations.0.column",), "11", GRAPHQL),
    Difference("errors/two_problems", ("body.errors.1.locations.0.column",), "19", GRAPHQL),
    Difference(
        "errors/include_and_skip",
        ("body.data", "body.errors", "status"),
        "workdir|None|200",
        "GraphQL's own directives are served",
    ),
    Difference(
        "exec/process_one_is_an_init",
        ("",),
        r"^([2-9]|\d\d+)\n1\n$",
        "an init is process 1; the number of the command's is by chance",
    ),
    Difference(
        "exec/environment",
        ("",),
        "HOSTNAME=dagger.*SOURCE_DATE_EPOCH",
        "variables that lead tools to the host's CA bundle and package index, and to reproducible times",
    ),
    Difference("exec/workdir_is_a_file", ("stderr",), "not a directory", "the OCI runtime's words"),
    Difference("files/a_missing_file", ("2",), "such", LAZY),
    Difference("files/digests", ("time",), "False", "a time that was given on purpose is content"),
    Difference(
        "host/digests_by_content", ("built",), "True", "a digest is of the content, however it was made"
    ),
    Difference(
        "host/links_are_kept", ("4", "5"), "x|filelink", FAULT + "it can't read a host file through a link"
    ),
    Difference(
        "host/special_files_are_left_out",
        ("",),
        "named pipe",
        "what can't be loaded is told, not left out in silence",
    ),
    Difference(
        "host/a_directory_with_filters",
        ("include leading slash", "leading slash"),
        "sub|dot",
        "a leading slash is cut off, as in .dockerignore",
    ),
    Difference(
        "host/export_of_a_file_over_a_directory_entry",
        ("0", "1"),
        "is a directory on the host|inside",
        "an export does not delete a directory of the host's unless it is told to wipe",
    ),
    Difference(
        "secrets/lines_of_a_long_secret",
        ("",),
        "^\\*\\*\\*\n\\*\\*\\*\n$",
        "the lines of a secret are masked too",
    ),
    Difference(
        "secrets/only_masked_where_it_is_known",
        ("",),
        "\\*\\*\\*",
        "a session's secrets are masked wherever they show",
    ),
    Difference(
        "secrets/what_makes_an_exec_new_in_dagger_only",
        ("annotation", "entrypoint", "label", "port"),
        "True",
        CONTENT,
    ),
    Difference(
        "services/that_dies_during_the_exec",
        ("0", "1", "2"),
        "ExecError|9|said",
        "the error is an ExecError with the service's exit code and what was said",
    ),
    Difference(
        "images/imported_that_is_none",
        ("1",),
        "import",
        "an archive is read when it is named, since its configuration is needed",
    ),
)

WORDED: dict[str, tuple[str, ...]] = {
    # messages of ours in other words than Dagger's; what they are about is in the rest of the answer
    "config/docker_healthcheck_with_a_bad_duration": ("message",),
    "config/image_ref": ("1.message", "2.message"),
    "container_files/an_unknown_owner": ("0.message", "1.message", "2.message"),
    "container_files/reading_what_is_not_there": ("2.message", "3.message"),
    "container_files/chown_of_a_part": ("1.message", "2.message"),
    "directories/entries_of_what_is_not_there": ("0.message", "1.message", "3.message"),
    "directories/a_bad_glob": ("0.message",),
    "directories/filters_with_bad_patterns": ("0.message", "1.message"),
    "directories/a_file_over_a_directory_and_back": ("0.message", "1.message", "3.message"),
    "directories/with_directory_at_strange_places": ("a/b.message",),
    "directories/with_files": ("4.message",),
    "directories/new_file_at_strange_places": ("message", "/.message"),
    "directories/symlinks": ("2.message", "3.message"),
    "errors/an_empty_body": ("body.errors.0.message",),
    "errors/no_json": ("body.errors.0.message",),
    "errors/an_empty_document": ("body.errors.0.message",),
    "errors/an_unknown_field": ("body.errors.0.message",),
    "errors/an_unknown_nested_field": ("body.errors.0.message",),
    "errors/an_unknown_argument": ("body.errors.0.message",),
    "errors/a_missing_argument": ("body.errors.0.message",),
    "errors/an_enum_that_is_not": ("body.errors.0.message",),
    "errors/null_where_it_must_not_be": ("body.errors.0.message",),
    "errors/a_leaf_with_a_selection": ("body.errors.0.message",),
    "errors/an_object_without_a_selection": ("body.errors.0.message",),
    "errors/a_mutation": ("body.errors.0.message",),
    "errors/platform_of_nonsense": ("body.errors.0.message",),
    "errors/two_problems": ("body.errors.0.message", "body.errors.1.message"),
    "errors/a_fragment_that_is_not": ("body.errors.0.message",),
    "errors/the_path_of_an_error_in_an_alias": ("body.errors.0.message",),
    "errors/the_path_of_an_error_deeper": ("body.errors.0.message",),
    "errors/two_errors": ("body.errors.1.message",),
    "errors/no_id": ("body.errors.0.message",),
    "errors/an_empty_id": ("body.errors.0.message",),
    "errors/no_id_of_a_directory": ("body.errors.0.message",),
    "errors/load_of_nonsense": ("body.errors.0.message",),
    "errors/from_an_address_of_nonsense": ("body.errors.0.message",),
    "errors/from_an_empty_address": ("body.errors.0.message",),
    "errors/an_id_of_another_type": ("body.errors.0.message",),
    "errors/load_an_id_of_another_type": ("body.errors.0.message",),
    "exec/an_unknown_user": ("message",),
    "exec/an_unknown_group": ("message",),
    "exec/redirect_into_a_missing_directory": ("message",),
    "exec/redirect_into_the_missing_workdir": ("message",),
    "exec/stdin_from_a_missing_file": ("message",),
    "exec/workdir_is_a_file": ("message",),
    "files/a_directory_is_no_file": ("0.message", "1.message"),
    "files/a_missing_file": ("3.message",),
    "files/names_that_are_none": ("message",),
    "files/with_name": ("4.message",),
    "files/replaced": ("2.message", "7.message"),
    "host/bad_patterns": ("0.message", "1.message"),
    "host/missing_paths": ("0.message", "1.message", "2.message", "3.message", "4.message"),
    "host/links_are_kept": ("6.message",),
    "host/export_of_a_directory_onto_a_file": ("0.message",),
    "host/export_of_what_is_not_there": ("0.message", "1.message"),
    "host/export_of_a_file": ("1.message",),
    "images/a_failing_run": ("message",),
    "images/built_to_a_target": ("2.message",),
    "images/published_empty": ("message",),
    "secrets/that_are_not_there": ("0.message", "1.message", "2.message", "3.message", "4.message"),
    "secrets/a_missing_one_in_an_exec": ("message",),
    "secrets/a_volume_cannot_be_read_back": ("3.message",),
    "services/that_dies_at_once": ("message",),
    "services/ports_and_endpoints": ("5.message",),
    "services/started_that_dies": ("message",),
    "services/a_tunnel_of_a_service_without_ports": ("message",),
}


def allowed(case: str, found: dict[str, tuple[Answer, Answer]]) -> tuple[set[str], set[str]]:
    """The places that may differ, and those that are listed but don't differ (or not so)."""
    listed = {at: one for one in DIFFERENCES if one.case == case for at in one.at}
    worded = set(WORDED.get(case, ()))
    may = {at for at, (ours, theirs) in found.items() if _general(at, ours, theirs)}
    may |= {at for at, one in listed.items() if at in found and one.holds(found[at][0])}
    may |= {at for at in worded if at in found and _is_told(found[at][0])}
    return may, ({*listed, *worded}) - may


def _general(at: str, ours: Answer, theirs: Answer) -> bool:
    """What holds for every case: the message of a failed command goes on with the command and its last lines;
    an error shows at the field where something is looked up, which may be later or earlier in the chain;
    Dagger's engine tells fields that it calls by itself."""
    place = at.rpartition(".")[2]
    if place == "message" and isinstance(theirs, str) and re.fullmatch(r"exit code: \d+", theirs):
        return isinstance(ours, str) and ours.startswith(f"{theirs}: ")
    return re.search(r"(^|\.)path(\.\d+)?$", at) is not None and bool(ours)


def _is_told(message: Answer) -> bool:
    return isinstance(message, str) and bool(message) and not re.search("Traceback|fault in the", message)
