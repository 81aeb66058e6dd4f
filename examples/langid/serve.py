"""Language identification over HTTP: POST /predict {"text": "..."} -> {"language": "de", "score": 0.99}."""

from __future__ import annotations

from typing import Any, Protocol

from server import BadRequest, Request, serve

MAX_TEXT = 100_000
MAX_TOP = 20


class Identifier(Protocol):
    """What is used of py3langid."""

    def rank(self, text: str) -> list[tuple[str, float]]: ...


class Languages:
    """The routes, over one loaded identifier."""

    def __init__(self, identifier: Identifier) -> None:
        self.identifier = identifier

    def predict(self, request: Request) -> dict[str, Any]:
        """The most likely language of a text; with "top": n also the n best candidates."""
        body = request.json()
        text, top = body.get("text"), body.get("top", 0)
        if not isinstance(text, str) or not text.strip():
            raise BadRequest('"text" has to be a string with something in it')
        if len(text) > MAX_TEXT:
            raise BadRequest(f'"text" has {len(text)} characters, at most {MAX_TEXT} are taken')
        if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= MAX_TOP:
            raise BadRequest(f'"top" has to be a whole number from 0 to {MAX_TOP}')
        ranking = [{"language": code, "score": round(score, 6)} for code, score in self.identifier.rank(text)]
        return {**ranking[0], "candidates": ranking[:top]} if top else ranking[0]


def main() -> None:
    """Load the model once, then serve."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    serve({"/predict": Languages(identifier).predict})


if __name__ == "__main__":
    main()
