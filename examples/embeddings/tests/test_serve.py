"""The routes over a made-up model."""

import json
import unittest

from serve import MAX_TEXT, MAX_TEXTS, Embeddings
from server import BadRequest, Request

VECTORS = {"east": (1.0, 0.0), "north": (0.0, 1.0), "north-east": (0.6, 0.8)}


class Fixed:
    def embed(self, text):
        return VECTORS[text]


def request(body):
    return Request(json.dumps(body).encode())


class EmbedTest(unittest.TestCase):
    def test_one_vector_for_each_text(self):
        answer = Embeddings(Fixed()).embed(request({"texts": ["east", "north-east"]}))
        self.assertEqual(answer, {"dimensions": 2, "embeddings": [[1.0, 0.0], [0.6, 0.8]]})

    def test_what_is_refused(self):
        for texts in (None, "east", [], [7], [""], ["east"] * (MAX_TEXTS + 1), ["x" * (MAX_TEXT + 1)]):
            with self.subTest(texts=str(texts)[:40]), self.assertRaises(BadRequest):
                Embeddings(Fixed()).embed(request({"texts": texts}))

    def test_the_refused_text_is_named(self):
        with self.assertRaisesRegex(BadRequest, r"texts\.1"):
            Embeddings(Fixed()).embed(request({"texts": ["east", " "]}))


class SimilarityTest(unittest.TestCase):
    def test_the_cosine(self):
        for a, b, cosine in (("east", "east", 1), ("east", "north", 0), ("east", "north-east", 0.6)):
            answer = Embeddings(Fixed()).similarity(request({"a": a, "b": b}))
            self.assertAlmostEqual(answer["similarity"], cosine)

    def test_both_texts_are_needed(self):
        with self.assertRaisesRegex(BadRequest, '"b"'):
            Embeddings(Fixed()).similarity(request({"a": "east"}))


if __name__ == "__main__":
    unittest.main()
