"""The routes over a made-up model."""

import base64
import json
import unittest
from types import SimpleNamespace

from serve import RAW, FileTypes, content
from server import BadRequest, Request


class Fixed:
    def identify_bytes(self, data):
        label = "empty" if not data else "pdf"
        output = SimpleNamespace(label=label, mime_type="application/pdf", group="document", is_text=False)
        return SimpleNamespace(prediction=SimpleNamespace(output=output, score=0.98765432))


class ContentTest(unittest.TestCase):
    def test_raw_bytes_are_taken_as_they_are(self):
        self.assertEqual(content(Request(b"\x00\xff", RAW)), b"\x00\xff")

    def test_base64(self):
        body = json.dumps({"data": base64.b64encode(b"\x00\xff").decode()}).encode()
        self.assertEqual(content(Request(body)), b"\x00\xff")

    def test_what_is_refused(self):
        for body in (
            b"{}",
            b'{"data": 7}',
            b'{"data": "%%%"}',
            b'{"data": "\xc3\xa9"}',
            b'{"data": "YQ"}',
            b"YQ==",
        ):
            with self.subTest(body=body), self.assertRaises(BadRequest):
                content(Request(body))
        with self.assertRaises(BadRequest) as refused:
            content(Request(b"YQ==", "text/plain"))
        self.assertEqual(refused.exception.status, 415)


class PredictTest(unittest.TestCase):
    def test_the_answer(self):
        answer = FileTypes(Fixed()).predict(Request(b"%PDF-1.7", RAW))
        self.assertEqual(
            answer,
            {
                "type": "pdf",
                "media_type": "application/pdf",
                "group": "document",
                "is_text": False,
                "score": 0.987654,
            },
        )


if __name__ == "__main__":
    unittest.main()
