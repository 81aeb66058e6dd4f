"""The clouds of Azure: where the sovereign ones have what the public one has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import httpx

_PUBLIC: Final = ("login.microsoftonline.com", "https://management.azure.com", "api://AzureADTokenExchange")
_SOVEREIGN: Final = {
    ".azurecr.cn": (
        "login.chinacloudapi.cn",
        "https://management.chinacloudapi.cn",
        "api://AzureADTokenExchangeChina",
    ),
    ".azurecr.us": (
        "login.microsoftonline.us",
        "https://management.usgovcloudapi.net",
        "api://AzureADTokenExchangeUSGov",
    ),
}
_MICROSOFT: Final = (
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.chinacloudapi.cn",
    "login.partner.microsoftonline.cn",
)


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where Entra and the Resource Manager of a registry's cloud are."""

    authority: str
    resource_manager: str
    audience: str = "api://AzureADTokenExchange"
    """What Entra wants the token of a federated identity to be for."""

    @classmethod
    def of(cls, host: str, environ: Mapping[str, str]) -> Self:
        """The cloud that the registry's host tells; AZURE_AUTHORITY_HOST and
        AZURE_RESOURCE_MANAGER_ENDPOINT come before it."""
        known = next((cloud for end, cloud in _SOVEREIGN.items() if host.endswith(end)), _PUBLIC)
        authority = environ.get("AZURE_AUTHORITY_HOST") or known[0]
        return cls(
            authority if "://" in authority else f"https://{authority}",
            (environ.get("AZURE_RESOURCE_MANAGER_ENDPOINT") or known[1]).rstrip("/"),
            known[2],
        )

    @property
    def is_microsofts(self) -> bool:
        """Whether Microsoft itself knows this authority; a private cloud's is believed as it is."""
        return httpx.URL(self.authority).host in _MICROSOFT
