"""What is read of HTML, man pages, Markdown and plain text."""

import gzip
import unittest

from coterie_experts.corpus import documents as corpus
from support import LONG, Folder


class DocumentsTest(Folder):
    def read(self, name: str, text: str) -> corpus.Document:
        return corpus.read_document(self.write(name, text), name)

    def test_html_headings_start_sections_and_navigation_is_left_out(self):
        document = self.read("a.html", f"<html><head><title>T</title><script>var x;</script></head><body><nav>menu</nav><h1>Top\u00b6</h1>"
                                       f"<p>{LONG}</p><div class='navfooter'>Prev</div><h2>2.1. Sub</h2><pre>keep\n  this</pre><p>{LONG}</p></body></html>")
        self.assertEqual([s.heading for s in document.sections], ["Top", "Sub"])
        self.assertIn("keep\n  this", document.sections[1].text)
        self.assertNotIn("menu", document.sections[0].text + document.sections[1].text)
        self.assertNotIn("Prev", document.sections[0].text)

    def test_man_pages_lose_their_macros_and_keep_their_prose(self):
        document = self.read("ls.1", f'.TH LS 1 "2022" "GNU"\n.SH NOM\nls \\- affiche\n.PP\n{LONG}\n.SH "LES OPTIONS"\n.TP\n\\fB\\-a\\fR, \\fB\\-\\-all\\fR\n{LONG}\n')
        self.assertEqual(document.title, "ls(1)")
        self.assertEqual([s.heading for s in document.sections], ["NOM", "LES OPTIONS"])
        self.assertIn("-a, --all", document.sections[1].text)
        self.assertNotIn("\\f", document.sections[1].text)

    def test_markdown_fences_hide_headings(self):
        document = self.read("a.md", f"# One\n{LONG}\n```\n# not a heading\n```\n## Two\n{LONG}\n")
        self.assertEqual([s.heading for s in document.sections], ["One", "Two"])

    def test_gzipped_files_are_read(self):
        path = self.path / "a.txt.gz"
        with gzip.open(path, "wt") as out:
            out.write(LONG)
        self.assertIsNotNone(corpus.read_document(path, "a"))

    def test_binary_and_short_files_are_no_documents(self):
        path = self.path / "a.bin"
        path.write_bytes(b"\0\1\2" * 100)
        self.assertIsNone(corpus.read_document(path, "a"))
        self.assertIsNone(self.read("b.txt", "short"))

    def test_a_broken_gzip_file_is_no_document(self):
        path = self.path / "a.txt.gz"
        path.write_bytes(gzip.compress(LONG.encode() * 50)[:-20])
        self.assertIsNone(corpus.read_document(path, "a"))

    def test_a_limit_samples_the_whole_folder(self):
        for number in range(20):
            self.write(f"{number:02}.md", LONG)
        names = [name for _, name in corpus.list_files(self.path, ["*.md"], limit=4)]
        self.assertEqual(names, ["00.md", "05.md", "10.md", "15.md"])


if __name__ == "__main__":
    unittest.main()
