"""all-MiniLM-L6-v2 in numpy: the forward pass of a BERT encoder, mean pooling, unit length. No torch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MAX_TOKENS = 256

# The error function, which numpy has not: Abramowitz and Stegun 7.1.26, off by less than 1.5e-7.
_P = 0.3275911
_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution's probability below x."""
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(_P) * z)
    tail = np.zeros_like(t)
    for a in reversed(_A):
        tail = (tail + np.float32(a)) * t
    tail *= np.exp(-z * z)
    return x * (1 + np.sign(x) * (1 - tail)) * np.float32(0.5)


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class MiniLM:
    """The loaded model. Reading only: many threads may share it."""

    def __init__(self, directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text())
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.epsilon = config["layer_norm_eps"]
        self.weights = load_file(directory / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()

    def embed(self, text: str) -> np.ndarray:
        """The text as 384 numbers of length 1 together."""
        hidden = self.encode(np.asarray(self.tokenizer.encode(text).ids))
        mean = hidden.mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)

    def encode(self, ids: np.ndarray) -> np.ndarray:
        """The last hidden state of each token."""
        words = self.weights["embeddings.word_embeddings.weight"][ids]
        places = self.weights["embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(
            "embeddings", words + places + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            x = self.norm(f"{layer}.attention.output", x + self.attention(f"{layer}.attention", x))
            inner = gelu(self.dense(f"{layer}.intermediate.dense", x))
            x = self.norm(f"{layer}.output", x + self.dense(f"{layer}.output.dense", inner))
        return x

    def attention(self, name: str, x: np.ndarray) -> np.ndarray:
        """Every token looks at every token, in each head by itself."""
        query, key, value = (
            self.dense(f"{name}.self.{part}", x).reshape(len(x), self.heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        weights = softmax(query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(query.shape[-1])))
        return self.dense(f"{name}.output.dense", (weights @ value).transpose(1, 0, 2).reshape(len(x), -1))

    def dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(self.epsilon))
        return scaled * self.weights[f"{name}.LayerNorm.weight"] + self.weights[f"{name}.LayerNorm.bias"]
