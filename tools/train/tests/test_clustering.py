"""Clusters and their names, on points and texts where the right answer is known."""

import importlib.util
import re
import unittest

import numpy as np

from coterie_experts.clustering import density, spherical, terms
from coterie_experts.errors import Refused
from support import FIELDS, passage

HAS_HDBSCAN = importlib.util.find_spec("sklearn") is not None


def blobs(n_blobs: int, n_each: int, dim: int = 16, seed: int = 0, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """(points [n_blobs * n_each, dim] of unit norm, which blob each is of)."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n_blobs), n_each)
    return spherical.normalised(np.eye(n_blobs, dim)[owner] + rng.normal(0, noise, (len(owner), dim))), owner


class SphericalKMeansTest(unittest.TestCase):
    def test_separate_blobs_are_found_and_centroids_have_unit_norm(self):
        points, owner = blobs(5, 40)
        centroids = spherical.spherical_kmeans(points, 5, seed=3)
        found, cosine = spherical.assign(points, centroids)
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-6)
        self.assertEqual(len(set(zip(owner, found))), 5)  # one cluster for each blob
        self.assertGreater(cosine.min(), 0.9)

    def test_the_same_seed_gives_the_same_centroids(self):
        points, _ = blobs(4, 30, noise=0.5)
        np.testing.assert_array_equal(spherical.spherical_kmeans(points, 6, 1), spherical.spherical_kmeans(points, 6, 1))

    def test_there_are_no_more_centroids_than_distinct_points(self):
        points, _ = blobs(3, 10, noise=0)
        self.assertEqual(len(spherical.spherical_kmeans(points, 8, seed=1)), 3)

    def test_one_cluster_is_the_normalised_mean(self):
        points, _ = blobs(3, 10)
        mean = points.sum(axis=0)
        np.testing.assert_allclose(spherical.spherical_kmeans(points, 1, 1)[0], mean / np.linalg.norm(mean), atol=1e-5)


@unittest.skipUnless(HAS_HDBSCAN, "scikit-learn is not installed: HDBSCAN is not tested")
class HdbscanTest(unittest.TestCase):
    def test_it_finds_how_many_clusters_there_are(self):
        points, owner = blobs(4, 40)
        centroids = density.hdbscan(points, min_cluster_size=15)
        self.assertEqual(len(set(zip(owner, spherical.assign(points, centroids)[0]))), 4)

    def test_no_density_and_too_few_points_are_refused(self):
        points, _ = blobs(1, 20)
        with self.assertRaisesRegex(Refused, "20 chunks are fewer than --min-cluster-size 30"):
            density.hdbscan(points, 30)
        rng = np.random.default_rng(1)
        with self.assertRaisesRegex(Refused, "finds no cluster of 40"):
            density.hdbscan(spherical.normalised(rng.normal(size=(60, 16))), 40)


class TermsTest(unittest.TestCase):
    def test_terms_are_of_the_field_and_grammar_is_none(self):
        found = terms.telling_terms([[passage(field, i) for i in range(8)] for field in FIELDS])
        for field, of_cluster in zip(FIELDS, found):
            self.assertLessEqual(set(of_cluster), set(FIELDS[field]), field)

    def test_names_are_valid_and_no_two_are_alike(self):
        names = terms.names_of([["größe", "straße", "über"], ["größe", "straße", "über"], ["日本", "中国"], [], ["index", "indexes", "table"]])
        self.assertEqual(len(set(names)), 5)
        self.assertEqual(names[0], "grosse-strasse-uber")
        self.assertEqual(names[4], "index-table")
        for name in names:
            self.assertRegex(name, re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$"))

    def test_a_single_cluster_has_terms_too(self):
        self.assertTrue(terms.telling_terms([[passage("chess", i) for i in range(5)]])[0])


if __name__ == "__main__":
    unittest.main()
