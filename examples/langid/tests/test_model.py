"""The real model: needs the image's packages."""

import unittest

from py3langid.langid import MODEL_FILE, LanguageIdentifier


class ModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def test_scores_are_probabilities(self):
        ranking = self.identifier.rank("Guten Morgen, wie geht es Ihnen?")
        self.assertEqual(ranking[0][0], "de")
        self.assertAlmostEqual(sum(score for _, score in ranking), 1, places=4)

    def test_the_same_text_gives_the_same_answer(self):
        self.assertEqual(self.identifier.rank("Bonjour à tous"), self.identifier.rank("Bonjour à tous"))


if __name__ == "__main__":
    unittest.main()
