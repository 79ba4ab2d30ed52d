"""An expert that is made of others: the folder that `mix` writes, and what it refuses."""

import contextlib
import io
import pathlib
import unittest

import yaml

from coterie_experts import commands
from coterie_experts.errors import Refused
from coterie_experts.publishing import mixture
from support import Folder


class MixTest(Folder):
    def mix(self, *more: str) -> tuple[int, str]:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = commands.main(["mix", str(self.path / "rowing"), "--description", "SQL from Python", *more])
        return code, errors.getvalue()

    def card(self) -> dict:
        return yaml.safe_load((self.path / "rowing/expert.yaml").read_text())

    def test_the_card_names_members_weights_and_kind_and_stands_alone(self):
        code, said = self.mix("--member", "postgres@0123456789abcdef:0.6", "--member", "python:0.4", "--kind", "blend", "--tag", "sql", "--min-score", "0.3")
        self.assertEqual((code, [p.name for p in (self.path / "rowing").iterdir()]), (0, ["expert.yaml"]), said)
        self.assertEqual(self.card(), {"name": "rowing", "version": "1", "description": "SQL from Python", "tags": ["sql"],
                                       "thresholds": {"min_score": 0.3}, "kind": "blend",
                                       "members": [{"expert": "postgres@0123456789abcdef", "weight": 0.6}, {"expert": "python", "weight": 0.4}]})

    def test_without_weights_none_is_written(self):
        self.assertEqual(self.mix("--member", "postgres", "--member", "python")[0], 0)
        self.assertEqual(self.card()["members"], [{"expert": "postgres"}, {"expert": "python"}])

    def test_what_publishing_would_refuse_is_refused_by_name(self):
        for members, words in ((["postgres"], "1 members: the limits are 2 and 16"), ([f"e{i}" for i in range(17)], "17 members"),
                               (["a", "a@0123456789"], "a is a member twice"), (["a:0.5", "b"], "b: give every member a weight"),
                               (["a:0.5", "b:0.25"], "sum to 0.75"), (["a:1", "b:0"], "the weight of b is 0"),
                               (["a:nan", "b:1"], "the weight of a is nan"), (["a:1.5", "b:-0.5"], "the weight of b is -0.5"),
                               (["a:0.99", "b:0.01"], "the weight of b is 0.01, the limit is 1/64"), (["rowing", "a"], "rowing would be a member of itself")):
            with self.subTest(members=members):
                code, said = self.mix(*(word for member in members for word in ("--member", member)))
                self.assertEqual(code, 1)
                self.assertIn(words, said)
        self.assertFalse((self.path / "rowing").exists())

    def test_a_folder_with_an_adapter_keeps_its_card(self):
        self.write("rowing/adapter_model.safetensors", "weights")
        self.write("rowing/expert.yaml", "name: rowing")
        code, said = self.mix("--member", "a", "--member", "b")
        self.assertEqual(code, 1)
        self.assertIn("holds an adapter", said)
        self.assertEqual((self.path / "rowing/expert.yaml").read_text(), "name: rowing")

    def test_a_member_is_a_name_a_digest_and_a_weight(self):
        self.assertEqual(mixture.parse_member("a@01234567:0.5"), mixture.Member("a@01234567", 0.5))
        for text in ("", "Big", "a@012", "a:much", "base", "auto:1"):
            with self.subTest(text=text), self.assertRaises(Exception):
                mixture.parse_member(text)


if __name__ == "__main__":
    unittest.main()
