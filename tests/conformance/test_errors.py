"""The connection, and errors before anything runs: what HTTP and GraphQL answer, raw."""

from __future__ import annotations

import pytest

from .case import Answer, Theme
from .checking import test_answers_as_dagger_does  # noqa: F401  # the test of each case below
from .site import Site

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
THEME = Theme("errors")
case, raw = THEME.case, THEME.raw


@case
async def a_wrong_token(site: Site) -> Answer:
    return await site.post('{"query": "{ version }"}', token="wrong")


@case
async def no_token(site: Site) -> Answer:
    return await site.post('{"query": "{ version }"}', token="")


@case
async def no_json(site: Site) -> Answer:
    return await site.post("{nonsense")


@case
async def an_empty_body(site: Site) -> Answer:
    return await site.post("")


@case
async def json_without_a_query(site: Site) -> Answer:
    return await site.post("{}")


@case
async def another_path(site: Site) -> Answer:
    return (await site.post('{"query": "{ version }"}', path="/nowhere"))["status"]


@case
async def variables(site: Site) -> Answer:
    document = (
        'query Q($name: String!) { container { withLabel(name: $name, value: "v") { label(name: $name) } } }'
    )
    return await site.ask(document, variables={"name": "n"}, operationName="Q")


@case
async def a_variable_that_lacks(site: Site) -> Answer:
    document = "query Q($name: String!) { container { label(name: $name) } }"
    answer = await site.ask(document)
    return [answer["status"], sorted(answer["body"]), len(answer["body"]["errors"])]


@case
async def one_of_two_operations(site: Site) -> Answer:
    return await site.ask("query A { version } query B { container { workdir } }", operationName="B")


raw("version", "{ version }")
raw("default_platform", "{ defaultPlatform }")
raw(
    "type_names",
    '{ __typename container { __typename } directory { __typename file(path: "x") { __typename } } }',
)
raw("schema_roots", "{ __schema { queryType { name } mutationType { name } subscriptionType { name } } }")
raw("a_syntax_error", "{ version")
raw("an_empty_document", " ")
raw("an_unknown_field", "{ nothing }")
raw("an_unknown_nested_field", "{ container { nothing } }")
raw("an_unknown_argument", '{ container { withLabel(name: "a", value: "b", more: 1) { workdir } } }')
raw("a_missing_argument", '{ container { withLabel(name: "a") { workdir } } }')
raw("an_argument_of_another_type", '{ container { withExposedPort(port: "80") { workdir } } }')
raw("an_enum_that_is_not", "{ container { withExec(args: [], expect: MAYBE) { workdir } } }")
raw("an_enum_as_a_string", '{ container { withExec(args: ["true"], expect: "ANY") { workdir } } }')
raw("null_where_it_must_not_be", "{ container { label(name: null) } }")
raw("a_leaf_with_a_selection", "{ version { x } }")
raw("an_object_without_a_selection", "{ container }")
raw("a_mutation", "mutation { version }")
raw("two_problems", "{ nothing version(a: 1) }")
raw("a_fragment", "{ container { ...F } } fragment F on Container { workdir }")
raw("a_fragment_that_is_not", "{ container { ...F } }")
raw("aliases", '{ a: container { w: workdir } b: container { w: withWorkdir(path: "/x") { workdir } } }')
raw("include_and_skip", "{ version @skip(if: true) container { workdir @include(if: true) } }")
raw("the_path_of_an_error_in_an_alias", '{ c: container { f: file(path: "/no") { text: contents } } }')
raw("the_path_of_an_error_deeper", '{ directory { directory(path: "no") { entries } } }')
raw("an_error_beside_an_answer", '{ version directory { file(path: "no") { contents } } }')
raw(
    "two_errors",
    '{ a: directory { file(path: "no") { size } } b: directory { directory(path: "no") { entries } } }',
)
raw("no_id", '{ node(id: "nonsense") { id } }')
raw("an_empty_id", '{ node(id: "") { id } }')
raw("no_id_of_a_directory", '{ container { withDirectory(path: "/x", source: "nonsense") { workdir } } }')
raw("load_of_nonsense", '{ loadContainerFromID(id: "nonsense") { workdir } }')
raw("platform_of_nonsense", '{ container(platform: "no/such/thing/at/all") { platform } }')
raw("platform_of_another", '{ container(platform: "linux/arm64") { platform } }')
raw("platform_spelt_otherwise", '{ container(platform: "linux/x86_64") { platform } }')
raw("from_an_address_of_nonsense", '{ container { from(address: "UPPER CASE") { workdir } } }')
raw("from_an_empty_address", '{ container { from(address: "") { workdir } } }')


@case
async def an_id_of_another_type(site: Site) -> Answer:
    directory = await site.leaf("{ directory { id } }")
    return await site.ask(f'{{ container {{ withFile(path: "/x", source: "{directory}") {{ workdir }} }} }}')


@case
async def load_an_id_of_another_type(site: Site) -> Answer:
    directory = await site.leaf("{ directory { id } }")
    return await site.ask(f'{{ loadContainerFromID(id: "{directory}") {{ workdir }} }}')


@case
async def node_of_every_kind(site: Site) -> Answer:
    chains = {
        "container": "{ container { id } }",
        "directory": "{ directory { id } }",
        "file": '{ file(name: "a", contents: "b") { id } }',
        "secret": '{ setSecret(name: "a", plaintext: "bcde") { id } }',
        "volume": '{ cacheVolume(key: "a") { id } }',
        "host": "{ host { id } }",
    }
    found = {}
    for name, chain in chains.items():
        identity = await site.leaf(chain)
        found[name] = await site.leaf(f'{{ node(id: "{identity}") {{ __typename }} }}')
    return found


@case
async def sync_gives_an_id(site: Site) -> Answer:
    container = await site.leaf('{ container { withLabel(name: "a", value: "b") { sync } } }')
    directory = await site.leaf('{ directory { withNewFile(path: "a", contents: "b") { sync } } }')
    return [
        await site.leaf(f'{{ loadContainerFromID(id: "{container}") {{ label(name: "a") }} }}'),
        await site.leaf(f'{{ loadDirectoryFromID(id: "{directory}") {{ entries }} }}'),
        await site.leaf(f'{{ node(id: "{directory}") {{ ... on Directory {{ entries }} }} }}'),
    ]


@case
async def the_same_recipe_has_the_same_id(site: Site) -> Answer:
    def chain(value: str) -> str:
        return f'{{ container {{ withLabel(name: "a", value: "{value}") {{ id }} }} }}'

    first, again, other = [await site.leaf(chain(value)) for value in ("1", "1", "2")]
    return [first == again, first == other]


@case
async def lists_of_objects_by_id(site: Site) -> Answer:
    document = """{ container { withLabel(name: "a", value: "1") { withLabel(name: "b", value: "2") {
        labels { id } } } } }"""
    answer = await site.ask(document)
    labels = answer["body"]["data"]["container"]["withLabel"]["withLabel"]["labels"]
    names = [
        await site.leaf(f'{{ node(id: "{label["id"]}") {{ ... on Label {{ name }} }} }}') for label in labels
    ]
    return sorted(names)


@case
async def a_secret_in_a_refused_document(site: Site) -> Answer:
    answer = await site.ask('{ setSecret(name: "a", plaintext: "do-not-show") { nothing } }')
    return [answer["status"], "do-not-show" in str(answer)]
