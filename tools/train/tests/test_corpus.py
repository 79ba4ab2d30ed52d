"""From sources to chunks: what is read, how it is cut and split, what counts as alike."""

import gzip
import json
import pathlib
import unittest

from coterie_experts.corpus import chunks, near_duplicates, splits
from coterie_experts.corpus.sources import CorpusDocument, Skipped, Source, check_unchanged, read_source, read_sources
from coterie_experts.errors import Refused
from support import LONG, Folder, passage


def document(text: str, headings=((0, ""),)) -> CorpusDocument:
    return CorpusDocument("s", pathlib.Path("f"), "n", "d", "t", text, headings)


class SourcesTest(Folder):
    def read(self, source: Source):
        skipped = Skipped()
        return list(read_source(source, skipped)), skipped

    def test_json_lines_are_documents_and_may_name_their_source(self):
        lines = [{"text": LONG, "title": "A"}, {"text": LONG, "source": "other"}, {"text": "short"}]
        path = self.write("a.jsonl.gz", gzip.compress("\n".join(map(json.dumps, lines)).encode()))
        found, skipped = self.read(Source("mine", path))
        self.assertEqual([(d.source, d.name, d.title) for d in found], [("mine", "line 1", "A"), ("other", "line 2", "")])
        self.assertEqual(skipped.counts, {"too short": 1})

    def test_a_bad_line_is_named(self):
        for content, reason in (('{"text": 3}', "no object"), ("[]", "no object"), ("{", "a.jsonl:2")):
            path = self.write("a.jsonl", json.dumps({"text": LONG}) + "\n" + content + "\n")
            with self.assertRaisesRegex(Refused, f"a.jsonl:2.*{reason}|{reason}"):
                self.read(Source("mine", path))

    def test_empty_and_binary_files_are_left_out_and_counted_with_an_example(self):
        self.write("d/good.md", LONG)
        self.write("d/empty.txt", "")
        self.write("d/program", b"\x7fELF\0\0\0" * 100)
        found, skipped = self.read(Source("d", self.path / "d"))
        self.assertEqual([d.name for d in found], ["good.md"])
        self.assertEqual(skipped.counts, {"empty": 1, "binary": 1})
        self.assertIn("empty.txt", str(skipped))

    def test_a_list_of_sources_gives_licences_and_what_is_held_out(self):
        self.write("a/x.md", LONG)
        self.write("b/x.md", LONG)
        listed = self.write("list.yaml", "sources:\n- {name: one, path: a, licence: MIT}\n- {name: two, path: b, holdout: true}\n")
        found = read_sources([str(listed)], None, "unknown", [])
        self.assertEqual([(s.name, s.licence, s.holdout) for s in found], [("one", "MIT", False), ("two", "unknown", True)])

    def test_sources_that_are_missing_or_named_twice_or_unknown_are_refused_by_name(self):
        folder = self.write("a/x.md", LONG).parent
        with self.assertRaisesRegex(Refused, "nowhere is not there"):
            read_sources([str(self.path / "nowhere")], None, "", [])
        with self.assertRaisesRegex(Refused, "'a' is there twice"):
            read_sources([str(folder), f"a={folder}"], None, "", [])
        with self.assertRaisesRegex(Refused, "'b' is none of the sources a"):
            read_sources([str(folder)], None, "", ["b"])
        with self.assertRaisesRegex(Refused, "field 'glob'"):
            read_sources([str(self.write("l.yaml", "sources: [{name: a, path: a, glob: x}]"))], None, "", [])

    def test_a_changed_file_or_line_is_noticed_and_another_line_is_not(self):
        path = self.write("a.jsonl", json.dumps({"text": LONG}) + "\n")
        found, _ = self.read(Source("s", path))
        digests = {d.name: d.digest for d in found}
        with open(path, "a") as more:
            more.write(json.dumps({"text": LONG * 2}) + "\n")
        check_unchanged(path, digests)
        path.write_text(json.dumps({"text": LONG + "More."}) + "\n")
        with self.assertRaisesRegex(Refused, "a.jsonl has changed"):
            check_unchanged(path, digests)
        path.unlink()
        with self.assertRaisesRegex(Refused, "a.jsonl.*cannot be read"):
            check_unchanged(path, digests)


class ChunksTest(unittest.TestCase):
    def test_chunks_cover_the_text_in_order_and_none_is_too_long(self):
        text = "\n\n".join(passage("chess", i) for i in range(9))
        found = chunks.split(document(text), 400)
        self.assertEqual(found[0].begin, 0)
        self.assertEqual(found[-1].end, len(text))
        self.assertTrue(all(a.end == b.begin for a, b in zip(found, found[1:])))
        self.assertTrue(all(100 <= len(c.text) <= 500 for c in found))

    def test_a_cut_falls_on_a_paragraph_where_there_is_one(self):
        found = chunks.split(document("a" * 300 + "\n\n" + "b" * 300), 400)
        self.assertEqual([c.text for c in found], ["a" * 300, "b" * 300])

    def test_a_chunk_knows_the_heading_it_begins_under(self):
        text = "One\n" + "a" * 394 + "\n\nTwo\n" + "b" * 390
        found = chunks.split(document(text, ((0, "One"), (400, "Two"))), 410)
        self.assertEqual([c.heading for c in found], ["One", "Two"])

    def test_text_without_a_pause_is_cut_all_the_same(self):
        self.assertEqual([len(c.text) for c in chunks.split(document("x" * 1000), 400)], [400, 400, 200])


class NearDuplicatesTest(unittest.TestCase):
    def test_the_first_of_those_alike_stays(self):
        one, other = passage("chess", 1), passage("cooking", 1)
        self.assertEqual(near_duplicates.kept([one, other, one + " Again.", other.replace("the", "THE")]), [True, True, False, False])

    def test_short_texts_are_compared_by_their_words(self):
        self.assertEqual(near_duplicates.kept(["alpha beta", "beta alpha", "gamma delta", ""]), [True, False, True, True])


class SplitsTest(unittest.TestCase):
    NAMES = [f"d{i}" for i in range(40)]

    def test_every_document_is_in_one_part_and_order_plays_no_role(self):
        parts = splits.split_documents(self.NAMES, 0.1, 0.05, seed=1)
        self.assertEqual([parts.count(p) for p in ("train", "validation", "held_out")], [34, 2, 4])
        turned = splits.split_documents(self.NAMES[::-1], 0.1, 0.05, seed=1)
        self.assertEqual(parts, turned[::-1])

    def test_a_small_source_still_has_something_to_train_on(self):
        self.assertEqual(splits.split_documents(["a"], 0.1, 0.05, 1), ["train"])
        self.assertEqual(sorted(splits.split_documents(["a", "b"], 0.1, 0.05, 1)), ["held_out", "train"])
        self.assertEqual(sorted(splits.split_documents(["a", "b", "c"], 0.1, 0.05, 1)), ["held_out", "train", "validation"])


if __name__ == "__main__":
    unittest.main()
