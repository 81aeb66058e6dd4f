"""Azure Resource Manager as far as a registry's administration sees it: registries and role assignments.

Wire formats: Container Registry 2025-11-01 (Registries), Authorization 2022-04-01 (Role Assignments).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import unquote

import jwt

from tests.registries.authority import Authority
from tests.registries.entra import Entra
from tests.registries.web import Answered, Asked, Send, WebServer

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
GROUP = "models"
_ROLES = "/providers/microsoft.authorization/roleassignments"


class ResourceManager(WebServer):
    """One resource group with one registry. ``log`` holds the calls that write."""

    def __init__(self, port: int, authority: Authority, entra: Entra, login_server: str) -> None:
        super().__init__(port, authority)
        self.entra = entra
        name = login_server.partition(":")[0].partition(".")[0]
        self.registry_id = (
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
            f"/providers/Microsoft.ContainerRegistry/registries/{name}"
        )
        self.sku = "Premium"
        self.properties: dict[str, object] = {
            "loginServer": login_server,
            "provisioningState": "Succeeded",
            "roleAssignmentMode": "AbacRepositoryPermissions",
            "policies": {"retentionPolicy": {"days": 7, "status": "disabled"}},
            "encryption": {"status": "disabled"},
        }
        self.assignments: dict[str, dict[str, object]] = {}
        """By name: what a role assignment's ``properties`` are."""
        self.managers: set[str] | None = None
        """The object ids that may write; None: all."""
        self.strangers: set[str] = set()
        """Object ids that the directory does not know."""
        self.polls = 0
        """How often a change of the registry is still on its way when it is asked for."""
        self.log: list[str] = []
        entra.resources.add(self.url)

    @property
    def url(self) -> str:
        """What AZURE_RESOURCE_MANAGER_ENDPOINT says."""
        return f"https://localhost:{self.port}"

    def assign(self, role: str, principal: str, *, scope: str = "", condition: str | None = None) -> str:
        """Make a role assignment; its name."""
        name = f"assignment-{len(self.assignments)}"
        definition = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/{role}"
        self.assignments[name] = {
            "roleDefinitionId": definition,
            "principalId": principal,
            "scope": scope or self.registry_id,
            "condition": condition,
            "conditionVersion": "2.0" if condition else None,
        }
        return name

    async def respond(self, asked: Asked, send: Send) -> None:
        """What is asked for, in the name of whose token it is."""
        body = json.loads(await asked.body() or b"{}")
        try:
            token = asked.headers.get("authorization", "").removeprefix("Bearer ")
            principal = self.entra.principal_of(token, {self.url})
        except jwt.InvalidTokenError:
            await _error(401, "InvalidAuthenticationToken", "The access token is invalid.").send(send)
            return
        if asked.method != "GET":
            self.log.append(f"{asked.method} {asked.path.rpartition('/')[2]}")
            if self.managers is not None and principal not in self.managers:
                text = f"The client with object id '{principal}' does not have authorization."
                await _error(403, "AuthorizationFailed", text).send(send)
                return
        await self._answer(asked, body).send(send)

    def _answer(self, asked: Asked, body: Mapping[str, object]) -> Answered:
        path, registry = unquote(asked.path).lower(), self.registry_id.lower()
        api = asked.query.get("api-version")
        if path == registry and api == "2025-11-01":
            return self._registry(asked.method, body)
        if path == f"{registry}{_ROLES}" and asked.method == "GET" and api == "2022-04-01":
            return self._page(asked)
        if path.startswith(f"{registry}{_ROLES}/") and api == "2022-04-01":
            return self._assignment(asked.method, path.rpartition("/")[2], body)
        return _error(404, "ResourceNotFound", f"The Resource '{asked.path}' was not found.")

    def _registry(self, method: str, body: Mapping[str, object]) -> Answered:
        if method == "PATCH":
            changed = body["properties"]["policies"]["retentionPolicy"]
            if self.sku != "Premium":
                return _error(400, "InvalidSku", "The policy is only supported for Premium registries.")
            self.properties["policies"]["retentionPolicy"].update(changed)
        state = "Updating" if method == "PATCH" and self.polls else "Succeeded"
        if method == "GET" and self.polls and self.log:
            self.polls -= 1
            state = "Updating"
        value = {"id": self.registry_id, "sku": {"name": self.sku, "tier": self.sku}}
        return Answered({**value, "properties": {**self.properties, "provisioningState": state}})

    def _page(self, asked: Asked) -> Answered:
        """Two at a time."""
        start = int(asked.query.get("$skiptoken", "0"))
        values = [self._value(name) for name in sorted(self.assignments)]
        more = f"{self.url}{asked.path}?api-version=2022-04-01&$filter=atScope()&$skiptoken={start + 2}"
        page = {"value": values[start : start + 2]}
        return Answered({**page, "nextLink": more} if values[start + 2 :] else page)

    def _assignment(self, method: str, name: str, body: Mapping[str, object]) -> Answered:
        if method == "DELETE":
            return Answered(status=200 if self.assignments.pop(name, None) else 204)
        wanted = {"scope": self.registry_id, "condition": None, **body["properties"]}
        for other, there in self.assignments.items():
            same = all(there[key] == wanted[key] for key in ("principalId", "roleDefinitionId", "scope"))
            if same and other != name:
                return _error(409, "RoleAssignmentExists", "The role assignment already exists.")
        if wanted["principalId"] in self.strangers:
            return _error(400, "PrincipalNotFound", f"Principal {wanted['principalId']} does not exist.")
        is_new = name not in self.assignments
        self.assignments[name] = wanted
        return Answered(self._value(name), 201 if is_new else 200)

    def _value(self, name: str) -> dict[str, object]:
        path = f"{self.registry_id}/providers/Microsoft.Authorization/roleAssignments/{name}"
        return {"id": path, "name": name, "properties": self.assignments[name]}


def _error(status: int, code: str, message: str) -> Answered:
    return Answered({"error": {"code": code, "message": message}}, status)
