"""Losses, regret and policies on figures that can be worked out by hand."""

import math
import unittest

import numpy as np

from coterie_experts.evaluation import calibrating, evaluating, measures, policies, report, samples
from coterie_experts.errors import Refused
from coterie_experts.run import manifest
from hand_made import write_run
from support import Folder

# Two samples of two tokens; experts 0 and 1, then the base: expert i is sure of sample i and poor at the other.
SURE, POOR, FAIR = math.log(0.8), math.log(0.1), math.log(0.4)
LOGPROBS = [np.array([[SURE, SURE], [POOR, POOR], [FAIR, FAIR]]), np.array([[POOR, POOR], [SURE, SURE], [FAIR, FAIR]])]
N_TOKENS = np.array([2, 2])


class MeasuresTest(unittest.TestCase):
    def test_a_single_choice_is_its_own_loss_and_a_mixture_averages_probabilities(self):
        losses = measures.sample_losses(LOGPROBS, np.array([[1.0, 0, 0], [0.5, 0.5, 0]]))
        self.assertAlmostEqual(losses[0], -2 * SURE)
        self.assertAlmostEqual(losses[1], -2 * math.log(0.45))

    def test_regret_and_the_share_kept(self):
        of = lambda choice: measures.sample_losses(LOGPROBS, policies.always(np.array(choice), 2))  # noqa: E731
        base, best = of([2, 2]), of([0, 1])
        right, half, wrong = (measures.summary(of(c), base, best, N_TOKENS) for c in ([0, 1], [0, 2], [1, 0]))
        self.assertAlmostEqual(right["kept"], 1.0)
        self.assertAlmostEqual(right["regret"], 0.0)
        self.assertAlmostEqual(right["perplexity_below_base"], 0.5)
        self.assertAlmostEqual(half["kept"], 0.5)
        self.assertAlmostEqual(wrong["regret"], SURE - POOR)
        self.assertLess(wrong["kept"], 0)
        self.assertIsNone(measures.summary(base, base, base, N_TOKENS)["kept"])

    def test_a_difference_has_the_standard_error_of_a_stratified_sample(self):
        n_tokens, generator = np.full(50, 4), np.random.default_rng(1)
        losses, others = generator.normal(10, 1, 50), generator.normal(9, 1, 50)
        mean, error = measures.difference(losses, others, n_tokens, ["a"] * 50)
        self.assertAlmostEqual(mean, float((losses - others).mean()) / 4)
        self.assertAlmostEqual(error, float((losses - others).std(ddof=1)) / math.sqrt(50) / 4)
        twice = np.concatenate([losses, losses + 7]), np.concatenate([others, others]), np.full(100, 4)
        mean, of_both = measures.difference(*twice, ["a"] * 50 + ["b"] * 50)  # what lies between the domains is no noise
        self.assertAlmostEqual(mean, float((losses - others).mean() + 3.5) / 4)
        self.assertAlmostEqual(of_both, error / math.sqrt(2))
        self.assertEqual(measures.difference(np.array([3.0]), np.array([1.0]), np.array([2]), ["a"]), (1.0, None))

    def test_the_oracle_takes_the_expert_of_least_loss_and_never_the_base(self):
        np.testing.assert_array_equal(measures.oracle(LOGPROBS, 2), [0, 1])

    def test_a_domain_weighs_by_its_tokens(self):
        found = measures.by_domain(np.array([2.0, 6.0, 1.0]), np.array([2, 2, 1]), ["a", "a", "b"])
        self.assertEqual(found, {"a": 2.0, "b": 1.0})


class PoliciesTest(unittest.TestCase):
    SCORES = np.array([[0.9, 0.1, 0.2], [0.3, 0.35, 0.1], [0.1, 0.05, 0.15]])

    def test_nearest_and_abstaining_by_score_and_by_margin(self):
        nearest = policies.nearest(self.SCORES)
        np.testing.assert_array_equal(nearest.argmax(axis=1), [0, 1, 2])
        np.testing.assert_array_equal(policies.abstaining(nearest, self.SCORES, 0.2).argmax(axis=1), [0, 1, 3])
        np.testing.assert_array_equal(policies.abstaining(nearest, self.SCORES, 0.2, 0.1).argmax(axis=1), [0, 3, 3])

    def test_top_k_is_the_softmax_of_squared_distances(self):
        weights = policies.top_k(self.SCORES, 2, 0.1)
        expected = 1 / (1 + math.exp(-(2 * (0.35 - 0.3)) / 0.1))
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        np.testing.assert_allclose(weights[1], [1 - expected, expected, 0, 0])
        np.testing.assert_array_equal((weights > 0).sum(axis=1), [2, 2, 2])

    def test_the_best_of_several_prototypes_counts(self):
        questions = np.eye(3, dtype=np.float32)
        scores = policies.expert_scores(questions, [np.eye(3)[:2], np.eye(3)[2:]])
        np.testing.assert_array_equal(scores.argmax(axis=1), [0, 0, 1])

    def test_a_classifier_learns_the_clusters_and_one_cluster_needs_none(self):
        points = np.repeat(np.eye(3), 5, axis=0)
        found = policies.classifier(points, np.repeat([0, 1, 2], 5), np.eye(3)[::-1], 3)
        np.testing.assert_array_equal(found.argmax(axis=1), [2, 1, 0])
        np.testing.assert_array_equal(policies.classifier(points, np.zeros(15, int), np.eye(3), 1).argmax(axis=1), [0, 0, 0])


class ChoiceTest(unittest.TestCase):
    def test_the_best_policy_is_a_real_one_and_mixes_only_where_it_may(self):
        losses = {"base": 3.0, "oracle": 1.0, "random expert": 0.5, "everything": 0.4, "classifier": 2.2, "nearest centroid": 2.1, "c-BTM, top 2": 2.0}
        self.assertEqual(evaluating.best_policy(losses), "nearest centroid")
        self.assertEqual(evaluating.best_policy(losses, mixing=True), "c-BTM, top 2")


class CalibrationTest(unittest.TestCase):
    """Ten samples: eight of a field, near their expert; two strangers, far from both, whom the experts harm a little."""
    SCORES = np.array([[0.8, 0.2]] * 4 + [[0.2, 0.7]] * 4 + [[0.3, 0.28]] * 2)

    def logprobs(self, stranger_gain: float) -> list[np.ndarray]:
        def one(gains):
            return np.array([[-2 + gains[0]] * 3, [-2 + gains[1]] * 3, [-2.0] * 3])

        return [one((1, -1))] * 4 + [one((-1, 1))] * 4 + [one((stranger_gain, stranger_gain))] * 2

    def test_the_threshold_lies_between_the_field_and_the_strangers(self):
        found = calibrating.calibrate(self.logprobs(-0.1), self.SCORES, keep=0.98)
        self.assertTrue(0.3 < found.min_score <= 0.7 or found.min_margin > 0.02, found)
        self.assertEqual(found.to_base, 0.2)
        self.assertGreater(found.kept, 1.0)
        self.assertEqual(found.temperature, 0.02)  # the second expert only harms

    def test_it_is_no_stricter_than_the_gain_to_be_kept_allows(self):
        found = calibrating.calibrate(self.logprobs(1.0), self.SCORES, keep=1.0)
        self.assertEqual((found.to_base, found.kept), (0.0, 1.0))

    def test_experts_that_never_help_set_no_threshold(self):
        found = calibrating.calibrate([-np.ones((3, 2)) * np.array([[3], [3], [1]])] * 10, self.SCORES, keep=0.98)
        self.assertEqual((found.to_base, found.kept), (0.0, 1.0))


class FiguresTest(unittest.TestCase):
    def test_figures_hold_every_policy_and_the_page_shows_them(self):
        found = evaluating.figures([np.vstack([l, l[2:] + 0.1]) for l in LOGPROBS], {"mine": policies.always(np.array([0, 2]), 2)}, ["a", "b"], 2, True)
        told = found["policies"]
        self.assertAlmostEqual(told["oracle"]["loss"], -SURE)
        self.assertAlmostEqual(told["everything"]["loss"], -FAIR - 0.1)
        self.assertEqual(told["everything"]["minus_everything"], (0.0, None))
        self.assertAlmostEqual(told["mine"]["minus_everything"][0], told["mine"]["loss"] - told["everything"]["loss"])
        self.assertAlmostEqual(told["random expert"]["loss"], -(SURE + POOR) / 2)
        self.assertEqual(told["mine"]["to_base"], 0.5)
        self.assertAlmostEqual(found["matrix"][0]["b"], -POOR)
        page = report.page({**found, "matrix": dict(zip(["x", "y", "base", "everything"], found["matrix"])), "samples": 2, "made": "now", "machine": "m",
                            "numerics": "fast", "base": "b<", "experts": 2, "outside": {"mine": {"loss": 1.0, "above_base": 0.01, "to_base": None}},
                            "first_token": {"routing_share": 0.04, "first_token_seconds": 0.1, "prompt_tokens": 128, "prompts": 20}})
        self.assertEqual(page.count("data:image/png;base64,"), 3)
        self.assertIn("base b&lt;", page)
        self.assertIn("4.0% of 100 ms", page)


class SamplesTest(Folder):
    def test_samples_are_the_same_whatever_the_clusters_and_no_word_is_cut(self):
        one = manifest.load(write_run(self.path / "one", 3))
        two = manifest.load(write_run(self.path / "two", 1))
        drawn = [[(s.domain, s.prompt, s.completion) for s in samples.draw(run, "held_out", 2, 200, 1)] for run in (one, two)]
        self.assertEqual(drawn[0], drawn[1])
        self.assertEqual([d for d, _, _ in drawn[0]], ["chess"] * 2 + ["cooking"] * 2 + ["sailing"] * 2)
        self.assertTrue(all(c.startswith(" ") and len(p) >= 200 for _, p, c in drawn[0]))
        with self.assertRaisesRegex(Refused, "no text of split 'outside'"):
            samples.draw(one, "outside", 2, 200, 1)


if __name__ == "__main__":
    unittest.main()
