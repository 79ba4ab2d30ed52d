"""The caches of embeddings and of scores: files that outlive the code that wrote them."""

import pathlib
import sqlite3
import tempfile
import unittest

import numpy as np

from coterie_experts.errors import Refused
from coterie_experts.evaluation.scores import ScoreCache
from coterie_experts.product import embeddings

EMBEDDER = "0123456789abcdef" * 4
# As files in use were made, statement by statement: the cache's own words are not used here.
SCORES = "CREATE TABLE IF NOT EXISTS scores (asked TEXT PRIMARY KEY, logprobs BLOB NOT NULL)"
VECTORS = "CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB NOT NULL)"


class CachesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def write(self, name, table, insert, key, floats):
        database = sqlite3.connect(self.path / name, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(table)
        database.execute(insert, (key, np.array(floats, "<f4").tobytes()))
        database.close()

    def rows(self, name, query):
        database = sqlite3.connect(self.path / name)
        self.addCleanup(database.close)
        return database.execute(query).fetchall()

    def scores(self):
        cache = ScoreCache(self.path / "scores.sqlite")
        self.addCleanup(cache.close)
        return cache

    def embeddings(self):
        cache = embeddings.EmbeddingCache(EMBEDDER, self.path)
        self.addCleanup(cache.close)
        return cache

    def test_scores_written_before_are_found_and_stay(self):
        self.write("scores.sqlite", SCORES, "INSERT OR IGNORE INTO scores VALUES (?, ?)", "a1", [-0.5, -2.25])
        cache = self.scores()
        np.testing.assert_array_equal(cache.find("a1"), np.array([-0.5, -2.25], np.float32))
        self.assertIsNone(cache.find("b2"))
        cache.keep(["a1", "b2"], [np.array([7.0]), np.array([-1.5])])
        self.assertEqual(self.rows("scores.sqlite", "SELECT asked, logprobs FROM scores ORDER BY asked"),
                         [("a1", np.array([-0.5, -2.25], "<f4").tobytes()), ("b2", np.array([-1.5], "<f4").tobytes())])

    def test_vectors_written_before_are_found_and_stay(self):
        key, other = embeddings.key_of("Schach"), embeddings.key_of("Kochen")
        name = EMBEDDER[:16] + ".sqlite"
        self.write(name, VECTORS, "INSERT OR IGNORE INTO vectors VALUES (?, ?)", key, [0.6, 0.8])
        cache = self.embeddings()
        np.testing.assert_array_equal(cache.find(key), np.array([0.6, 0.8], np.float32))
        self.assertIsNone(cache.find(other))
        # Rows of a matrix that is laid out by columns.
        cache.keep([key, other], np.asfortranarray(np.array([[7.0, 7.0], [0.8, -0.6]], np.float32)))
        self.assertEqual(self.rows(name, "SELECT text, vector FROM vectors ORDER BY vector"),
                         sorted([(key, np.array([0.6, 0.8], "<f4").tobytes()), (other, np.array([0.8, -0.6], "<f4").tobytes())],
                                key=lambda row: row[1]))

    def test_a_new_file_has_the_tables_of_those_in_use(self):
        self.scores()
        self.embeddings()
        for name, table in (("scores.sqlite", SCORES), (EMBEDDER[:16] + ".sqlite", VECTORS)):
            made = self.rows(name, "SELECT sql FROM sqlite_master WHERE type = 'table'")
            self.assertEqual(made, [(table.replace("IF NOT EXISTS ", ""),)])

    def test_a_cache_that_cannot_be_used_or_written_says_which(self):
        (self.path / "scores.sqlite").write_text("no database at all, and longer than its header would be" * 20)
        with self.assertRaisesRegex(Refused, "cannot use the cache of scores .*scores.sqlite"):
            ScoreCache(self.path / "scores.sqlite")
        cache = self.embeddings()
        cache.close()
        with self.assertRaisesRegex(Refused, "cannot write the embedding cache .*" + EMBEDDER[:16]):
            cache.keep([b"k"], [np.zeros(2)])


if __name__ == "__main__":
    unittest.main()
