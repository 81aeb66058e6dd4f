"""Calls to Azure that are no registry's: sent again while the failure may pass."""

from __future__ import annotations

from typing import Any

import anyio
import httpx

from pipelines.registries.errors import RegistryError, ServerFault
from pipelines.registries.reasons import connection_error, is_worth_retrying
from pipelines.registries.retries import Retries, retry_after_s

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


async def ask(
    http: httpx.AsyncClient,
    retries: Retries,
    method: str,
    url: str,
    **content: Any,  # what httpx takes: data, json, headers, params
) -> httpx.Response:
    """The answer, whatever it says, once it is none of those that pass. Raises Unreachable, ServerFault."""
    attempt = 0
    while True:
        attempt += 1
        asked_s = None
        try:
            answer = await http.request(method, url, **content)
        except httpx.HTTPError as err:
            failure: RegistryError = connection_error(httpx.URL(url).netloc.decode(), err)
            if not is_worth_retrying(err):
                raise failure from err
        else:
            if answer.status_code not in _PASSING:
                return answer
            asked_s = retry_after_s(answer.headers.get("Retry-After", ""))
            place = f"{httpx.URL(url).netloc.decode()} answered {method} {httpx.URL(url).path}"
            failure = ServerFault(f"{place} with {answer.status_code}", hint="run again later")
        wait_s = retries.wait_s(attempt, asked_s)
        if wait_s is None:
            raise failure
        await anyio.sleep(wait_s)
