"""Holds common/metrics.toml against the sources: every metric's name and help stand in both, dashboards and alerts ask for
nothing else, and what is made from the table is up to date. Runs nothing and downloads nothing; tests/deploy/cluster_test.py
holds types and labels against real processes. Standard library only."""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/metrics"))

import generate
import table

FOLDERS = {"gateway": "gateway", "worker": "worker", "net": "both", "common": "both"}
LITERAL_OR_COMMENT = re.compile(r'"((?:[^"\\\n]|\\.)*)"|//[^\n]*')
METRIC = re.compile(r"(?:coterie_|vllm:)[a-z_]+")
ALERTS = ROOT / "deploy/helm/coterie/files/alerts.yaml"


def literals(source: str) -> set[str]:
    """The string literals of a C++ source, neighbours joined as the compiler joins them."""
    found, text, end = set(), None, 0
    for match in LITERAL_OR_COMMENT.finditer(source):
        between, end = source[end:match.start()].strip(), match.end()
        if match.group(1) is None and not between:
            continue  # a comment between two neighbours
        if text is not None and not between:
            text += match.group(1)
            continue
        found.add(text)
        text = match.group(1)
    found.add(text)
    return {t.replace('\\"', '"') for t in found if t is not None}


def registered() -> dict[tuple[str, str], set[str]]:
    """(section of the table, name) -> literals of the files that name it."""
    found: dict[tuple[str, str], set[str]] = {}
    for folder, section in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.cc")):
            words = literals(path.read_text())
            for name in filter(METRIC.fullmatch, words):
                found.setdefault((section, name), set()).update(words)
    return found


class TableTest(unittest.TestCase):
    def setUp(self):
        self.metrics = table.load()
        self.by_section = {(section, name): entry for section, entries in table.tomllib.loads(table.FILE.read_text()).items()
                           for name, entry in entries.items()}

    def test_literals_are_joined_as_a_compiler_joins_them(self):
        self.assertEqual(literals('f("a_b", "two \\"wo\\"rds"\n   " more");  // "not this"\n'), {"a_b", 'two "wo"rds more'})

    def test_sources_and_table_name_the_same_metrics(self):
        self.assertEqual(set(registered()), set(self.by_section))

    def test_help_is_word_for_word_that_of_the_sources(self):
        found = registered()
        wrong = [f"{section}.{name}: {entry['help']}" for (section, name), entry in self.by_section.items()
                 if entry["help"] not in found.get((section, name), ())]
        self.assertEqual(wrong, [])

    def test_what_is_made_from_the_table_is_up_to_date(self):
        self.assertEqual(generate.stale(), [])

    def test_alerts_ask_for_nothing_else_and_have_a_runbook_each(self):
        rules = ALERTS.read_text()
        runbook = (ROOT / "docs/operations.md").read_text()
        names = re.findall(r"^\s*- alert: (\w+)$", rules, re.MULTILINE)
        self.assertGreater(len(names), 5)
        for name in names:
            self.assertTrue(f"\n### {name}\n" in runbook, f"docs/operations.md has no section {name}")
            self.assertTrue(f"operations.md#{name.lower()}" in rules, name)
        expressions = re.findall(r"^\s*expr: (.*(?:\n\s{12,}.*)*)", rules, re.MULTILINE)
        self.assertEqual(len(expressions), len(names))
        for expression in expressions:
            self.assertEqual(table.problems_of(expression, self.metrics), [], expression)

    def test_a_renamed_metric_or_label_in_a_query_is_noticed(self):
        for expression, word in (("rate(coterie_request_total[1m])", "coterie_request_total"),
                                 ("sum by (model) (coterie_workers)", "model"), ('coterie_workers{state="ready"}', "state"),
                                 ("coterie_queue_seconds", "coterie_queue_seconds")):
            self.assertIn(word, " ".join(table.problems_of(expression, self.metrics)))
        self.assertEqual(table.problems_of('histogram_quantile(0.9, sum by (le, expert) (rate(coterie_expert_score_ratio_bucket{expert=~"a|b=c"}[1m])))',
                                           self.metrics), [])

    def test_a_wrong_entry_is_named(self):
        for text, word in (('[gateway.coterie_x]\ntype = "meter"\nhelp = "X."', "meter"), ('[gateway.coterie_x]\ntype = "counter"\nhelp = "X."', "_total"),
                           ('[gateway.coterie_x]\ntype = "gauge"\nhelp = "X"', "full stop"), ('[gatway.coterie_x]\n', "gatway"),
                           ('[worker.coterie_x]\ntype = "gauge"\nhelp = "X."\nunit = "s"', "unit")):
            with self.assertRaisesRegex(ValueError, word):
                table.load(text)


if __name__ == "__main__":
    unittest.main()
