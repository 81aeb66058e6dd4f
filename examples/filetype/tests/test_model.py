"""The real model: needs the image's packages."""

import unittest

from magika import Magika
from serve import RAW, FileTypes
from server import Request


class ModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.types = FileTypes(Magika())

    def predict(self, data):
        return self.types.predict(Request(data, RAW))

    def test_source_code(self):
        answer = self.predict(b"import os\n\n\ndef main():\n    print(os.getcwd())\n\n\nmain()\n")
        self.assertEqual((answer["type"], answer["is_text"]), ("python", True))

    def test_small_and_empty_files_are_no_error(self):
        self.assertEqual(self.predict(b"")["type"], "empty")
        self.assertEqual(self.predict(b"ab")["type"], "txt")

    def test_random_bytes(self):
        self.assertFalse(self.predict(bytes(range(256)) * 20)["is_text"])


if __name__ == "__main__":
    unittest.main()
