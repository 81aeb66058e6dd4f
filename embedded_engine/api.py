"""From a GraphQL document to an answer: the schema, what of it is served, errors as Dagger's SDKs read them.

Schema-first: ``schema.graphql`` is Dagger's, the resolver tables say what of it is served.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from typing import Any, TypeAlias

from graphql import (
    DocumentNode,
    EnumValueNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    InlineFragmentNode,
    ObjectFieldNode,
    OperationDefinitionNode,
    SelectionNode,
    ValidationRule,
    build_schema,
    execute,
    parse,
    specified_rules,
    validate,
)

from embedded_engine.errors import for_client
from embedded_engine.evaluator import gathered
from embedded_engine.refusals import told
from embedded_engine.resolvers.registry import Call, Fields, Resolver
from embedded_engine.session import Session

Info: TypeAlias = "GraphQLResolveInfo[Call]"
CHAIN_LIMIT = 2000
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response's status and body."""

    status: int
    body: Mapping[str, Any]


class ServedFields(ValidationRule):
    """Refuses, by name and before anything runs, fields of Dagger's API that have no resolver here."""

    served: frozenset[str] = frozenset()

    def enter_field(self, node: FieldNode, *_: object) -> None:
        """Check one field of the document."""
        parent = self.context.get_parent_type()
        if parent is None or parent.name.startswith("__"):
            return  # introspection is GraphQL's own
        name = f"{parent.name}.{node.name.value}"
        if node.name.value in getattr(parent, "fields", {}) and name not in self.served:
            text = f"{name} is not supported by the embedded engine: needs Dagger's engine"
            self.report_error(GraphQLError(text, node))

    def enter_object_field(self, node: ObjectFieldNode, *_: object) -> None:
        """Check one field of an input object: ports are forwarded over TCP only."""
        udp = isinstance(node.value, EnumValueNode) and node.value.value == "UDP"
        if udp and str(self.context.get_parent_input_type()).rstrip("!") == "PortForward":
            text = "PortForward(protocol: UDP) is not supported by the embedded engine: needs Dagger's engine"
            self.report_error(GraphQLError(text, node))


@dataclass(slots=True)
class Api:
    """The executable schema."""

    schema: GraphQLSchema
    rules: tuple[type[Any], ...]

    async def answer(
        self, session: Session, query: str, variables: dict[str, Any] | None, operation: str | None
    ) -> Answer:
        """Execute one document. Never raises for what the document does."""
        try:
            document = parse(query, no_location=False)
        except GraphQLError as error:
            return _refusal([error], "GRAPHQL_PARSE_FAILED", query)
        problems = validate(self.schema, document, self.rules)
        if problems:
            return _refusal(problems, "GRAPHQL_VALIDATION_FAILED", query)
        call = Call(session)

        async def executed(part: DocumentNode) -> ExecutionResult:
            outcome = execute(
                self.schema, part, context_value=call, variable_values=variables, operation_name=operation
            )
            return await outcome if inspect.isawaitable(outcome) else outcome

        results = await gathered([partial(executed, part) for part in by_root_field(document)])
        errors = [
            _error(error, document, session, lambda text: told(text, query, variables))
            for result in results
            for error in result.errors or ()
        ]
        if errors:
            return Answer(200, {"errors": errors, "data": None})
        return Answer(
            200, {"data": {key: value for one in results for key, value in (one.data or {}).items()}}
        )

    def fault(self, session: Session, error: Exception) -> Answer:
        """The answer to a query that we could not even execute."""
        message, _ = for_client(error, session.secrets.known())
        return Answer(200, {"errors": [{"message": message, "path": []}], "data": None})


def build_api(fields: Fields) -> Api:
    """The schema with the resolvers of ``fields`` bound to it."""
    allow_long_chains()
    text = resources.files("embedded_engine").joinpath("schema.graphql").read_text(encoding="utf-8")
    schema = build_schema(text, assume_valid=True)  # a test holds it against the specification
    for name, resolver in fields.items():
        type_name, _, field_name = name.partition(".")
        served_type: Any = schema.type_map[type_name]
        served_type.fields[field_name].resolve = _bound(resolver)
    for name in ("Node", "Syncer", "Exportable"):
        interface: Any = schema.type_map[name]
        interface.resolve_type = _type_name
    served = type("Served", (ServedFields,), {"served": frozenset(fields) | _INTERFACE_FIELDS})
    return Api(schema, (*specified_rules, served))


_INTERFACE_FIELDS = frozenset({"Node.id", "Syncer.id", "Syncer.sync", "Exportable.id", "Exportable.export"})


def by_root_field(document: DocumentNode) -> list[DocumentNode]:
    """The document once for each field at its root, so that one that fails does not hide another's error.

    Executed as one, the first failure of a field that may not be null ends them all; Dagger's engine tells
    each. A document of several operations, or with fragments at the root, is left whole.
    """
    operations = [part for part in document.definitions if isinstance(part, OperationDefinitionNode)]
    if len(operations) != 1:
        return [document]
    fields = [one for one in operations[0].selection_set.selections if isinstance(one, FieldNode)]
    keys = {_response_key(one) for one in fields}
    if (
        len(fields) < 2
        or len(fields) != len(operations[0].selection_set.selections)
        or len(keys) != len(fields)
    ):
        return [document]
    return [_with_root(document, operations[0], one) for one in fields]


def _with_root(document: DocumentNode, operation: OperationDefinitionNode, root: FieldNode) -> DocumentNode:
    alone = replace(operation, selection_set=replace(operation.selection_set, selections=(root,)))
    others = (alone if part is operation else part for part in document.definitions)
    return replace(document, definitions=tuple(others))


def allow_long_chains() -> None:
    """Let queries nest ``CHAIN_LIMIT`` deep: a program's chain of n calls is one query nested n deep.

    graphql-core 3.3 stops at 200, a constant it has no option for; the SDK's own side has no such limit.
    """
    for name in ("graphql.language.parser", "graphql.validation.validate"):
        module: Any = importlib.import_module(name)
        if hasattr(module, "MAX_NESTING_DEPTH"):
            module.MAX_NESTING_DEPTH = CHAIN_LIMIT
    sys.setrecursionlimit(max(sys.getrecursionlimit(), CHAIN_LIMIT * 20))


def _bound(resolver: Resolver) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(resolver):

        async def resolve_async(parent: Any, info: Info, **arguments: Any) -> Any:
            return await resolver(info.context, parent, **_snake(arguments))

        return resolve_async

    def resolve(parent: Any, info: Info, **arguments: Any) -> Any:
        return resolver(info.context, parent, **_snake(arguments))

    return resolve


def _snake(arguments: dict[str, Any]) -> dict[str, Any]:
    return {_CAPITAL.sub(r"_\1", name).lower(): value for name, value in arguments.items()}


def _type_name(value: object, *_: object) -> str:
    return type(value).__name__


def _refusal(problems: list[GraphQLError], code: str, query: str) -> Answer:
    errors = []
    for problem in problems:
        formatted: dict[str, Any] = dict(problem.formatted)
        formatted["message"] = told(problem.message, query)  # it may quote the query
        formatted["extensions"] = {"code": code}
        errors.append(formatted)
    return Answer(422, {"errors": errors, "data": None})


def _error(
    error: GraphQLError, document: DocumentNode, session: Session, told: Callable[[str], str]
) -> dict[str, Any]:
    cause = error.original_error or Exception(told(error.message))  # without one, GraphQL itself speaks
    message, extensions = for_client(cause, session.secrets.known())
    formatted: dict[str, Any] = {"message": message, "path": _field_names(error, document)}
    if extensions:
        formatted["extensions"] = extensions
    return formatted


def _field_names(error: GraphQLError, document: DocumentNode) -> list[str | int]:
    """The error's path by field names; GraphQL's has response keys, which may be aliases."""
    level: list[SelectionNode] = [
        one
        for part in document.definitions
        if isinstance(part, OperationDefinitionNode)
        for one in part.selection_set.selections
    ]
    names: list[str | int] = []
    for key in error.path or []:
        found = next((one for one in _fields_of(level, document) if _response_key(one) == key), None)
        names.append(found.name.value if found else key)
        if found is not None:
            level = list(found.selection_set.selections) if found.selection_set else []
    return names


def _fields_of(selections: list[SelectionNode], document: DocumentNode) -> Iterator[FieldNode]:
    for one in selections:
        if isinstance(one, FieldNode):
            yield one
        elif isinstance(one, InlineFragmentNode):
            yield from _fields_of(list(one.selection_set.selections), document)
        elif isinstance(one, FragmentSpreadNode):
            for part in document.definitions:
                if isinstance(part, FragmentDefinitionNode) and part.name.value == one.name.value:
                    yield from _fields_of(list(part.selection_set.selections), document)


def _response_key(node: FieldNode) -> str:
    return node.alias.value if node.alias else node.name.value
