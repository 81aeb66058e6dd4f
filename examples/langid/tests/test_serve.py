"""The routes over a made-up model."""

import json
import unittest

from serve import MAX_TEXT, Languages
from server import BadRequest, Request


class Fixed:
    def rank(self, text):
        return [("de", 0.75), ("nl", 0.1234567), ("en", 0.1)]


class PredictTest(unittest.TestCase):
    def predict(self, **body):
        return Languages(Fixed()).predict(Request(json.dumps(body).encode()))

    def test_the_best_language(self):
        self.assertEqual(self.predict(text="Hallo"), {"language": "de", "score": 0.75})

    def test_candidates_are_the_best_first_and_rounded(self):
        candidates = self.predict(text="Hallo", top=2)["candidates"]
        self.assertEqual(
            candidates, [{"language": "de", "score": 0.75}, {"language": "nl", "score": 0.123457}]
        )

    def test_what_is_refused(self):
        for body in (
            {},
            {"text": ""},
            {"text": " \n"},
            {"text": 7},
            {"text": "x" * (MAX_TEXT + 1)},
            {"text": "x", "top": -1},
            {"text": "x", "top": True},
            {"text": "x", "top": 1.5},
        ):
            with self.subTest(body=str(body)[:40]), self.assertRaises(BadRequest):
                self.predict(**body)


if __name__ == "__main__":
    unittest.main()
