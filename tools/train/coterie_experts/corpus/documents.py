"""Reads text documents into titled sections.

A document is one file; its sections are the unit of training. Four forms are read, plain or gzipped:

  * HTML      headings h1..h4 start sections; navigation, scripts and side bars are left out
  * man pages .SH and .SS start sections; the common macros and escapes are reduced to plain text
  * Markdown  lines of one to four '#' start sections (plain .txt is read the same way)

Nothing here knows about tokens or models.
"""

from __future__ import annotations

import dataclasses
import gzip
import html.parser
import io
import pathlib
import re
import zlib

MAX_FILE_BYTES = 8 << 20  # a larger file is a data dump rather than a document
MIN_SECTION_CHARACTERS = 40  # less is a heading without a text
_PROBE_BYTES = 4096  # a zero byte among the first of them: no text
_HTML_SUFFIXES = {".html", ".htm", ".xhtml"}
_MAN_SUFFIX = re.compile(r"\.[1-9][a-zA-Z]*$")


@dataclasses.dataclass(frozen=True)
class Section:
    heading: str
    text: str


@dataclasses.dataclass(frozen=True)
class Document:
    name: str  # path relative to the source folder; what the split between train and held-out goes by
    title: str
    sections: tuple[Section, ...]


class _HtmlSections(html.parser.HTMLParser):
    """Collects (heading, text) pairs; everything before the first heading goes under ''."""

    _HEADINGS = {"h1", "h2", "h3", "h4"}
    _SKIP_TAGS = {"script", "style", "nav", "head", "footer", "aside", "button", "svg", "form", "noscript"}
    _SKIP_NAMES = {  # classes and ids
        "navheader", "navfooter", "sphinxsidebar", "related", "headerlink", "editsection", "toc", "noprint",
        "navbar", "sidebar", "t-navbar", "mw-jump", "printfooter", "out-of-band", "srclink", "footnotes",
        "rustdoc-breadcrumbs", "anchor", "indextable", "genindextable", "menu-title", "t-nv-begin", "printonly",
        "wy-breadcrumbs", "wy-nav-side", "wy-nav-top", "rst-footer-buttons", "siteSub", "contentSub", "catlinks",
    }
    _BLOCKS = {"p", "div", "li", "ul", "ol", "dl", "dt", "dd", "table", "tr", "pre", "blockquote", "section", "br"}
    _VOID = {"br", "hr", "img", "input", "link", "meta", "area", "base", "col", "wbr", "source", "embed"}

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[list[str]] = [["", ""]]
        self._stack: list[tuple[str, bool]] = []  # (tag, starts a skipped subtree)
        self._skipping = 0
        self._in_heading = False
        self._pre_depth = 0

    def handle_starttag(self, tag, attrs):
        if tag in self._VOID:
            if tag == "br" and not self._skipping:
                self._put("\n")
            return
        attributes = dict(attrs)
        names = {*(attributes.get("class") or "").split(), attributes.get("id")}
        skip = tag in self._SKIP_TAGS or bool(names & self._SKIP_NAMES)
        self._stack.append((tag, skip))
        if skip:
            self._skipping += 1
        if self._skipping:
            return
        if tag in self._HEADINGS:
            self.sections.append(["", ""])
            self._in_heading = True
        elif tag in self._BLOCKS:
            self._put("\n")
            if tag == "li":
                self._put("- ")
        elif tag in ("td", "th"):
            self._put(" ")
        if tag == "pre":
            self._pre_depth += 1

    def handle_endtag(self, tag):
        if tag in self._VOID or not any(open_tag == tag for open_tag, _ in self._stack):
            return
        while self._stack:  # close what the page forgot to close
            open_tag, skip = self._stack.pop()
            if skip:
                self._skipping -= 1
            elif not self._skipping:
                if open_tag in self._HEADINGS:
                    self._in_heading = False
                if open_tag in self._BLOCKS:
                    self._put("\n")
                if open_tag == "pre":
                    self._pre_depth = max(0, self._pre_depth - 1)
            if open_tag == tag:
                break

    def handle_data(self, data):
        if self._skipping:
            return
        self._put(data if self._pre_depth else re.sub(r"\s+", " ", data))

    def _put(self, text: str) -> None:
        self.sections[-1][0 if self._in_heading else 1] += text


def _tidy(text: str) -> str:
    text = text.replace("\u00b6", "").replace("\u00a0", " ").replace("\u200b", "")
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n[ \t]*(?:\n[ \t]*)+", "\n", text)
    return text.strip()


def _tidy_heading(text: str) -> str:
    text = re.sub(r"\s+", " ", text.replace("\u00b6", "").replace("\u00a0", " ")).strip()
    return re.sub(r"^(?:Chapter |Appendix )?(?:\d+|[A-Z])(?:\.\d+)*\.\s+", "", text).strip()


def _read_html(text: str) -> list[Section]:
    parser = _HtmlSections()
    parser.feed(text)
    parser.close()
    return [Section(_tidy_heading(h), _tidy(t)) for h, t in parser.sections]


_ROFF_ESCAPES = [
    (re.compile(r"\\f(?:\[[^\]]*\]|\(..|.)"), ""),   # fonts
    (re.compile(r"\\s[+-]?\d+"), ""),                # sizes
    (re.compile(r"\\\*\(..|\\\*\[[^\]]*\]|\\\*."), ""),
    (re.compile(r"\\\(aq|\\\[aq\]"), "'"),
    (re.compile(r"\\\(lq|\\\(rq|\\\[lq\]|\\\[rq\]|\\\(dq|\\\[dq\]"), '"'),
    (re.compile(r"\\\(em|\\\[em\]|\\\(en|\\\[en\]"), "-"),
    (re.compile(r"\\\(bu|\\\[bu\]"), "-"),
    (re.compile(r"\\\(co|\\\[co\]"), "(C)"),
    (re.compile(r"\\\(ha|\\\[ha\]"), "^"),
    (re.compile(r"\\\(ti|\\\[ti\]"), "~"),
    (re.compile(r"\\\(rs|\\\[rs\]|\\e"), r"\\"),
    (re.compile(r"\\m\[[^\]]*\]|\\h'[^']*'|\\v'[^']*'|\\w'[^']*'|\\k."), ""),
    (re.compile(r"\\u|\\d"), ""),
    (re.compile(r"\\-"), "-"),
    (re.compile(r"\\[ ~0]"), " "),
    (re.compile(r"\\[|^&%:/,)]"), ""),
    (re.compile(r"\\c$"), ""),
    (re.compile(r"\\\[u([0-9A-F]{4,5})\]"), lambda m: chr(int(m.group(1), 16))),
    (re.compile(r"\\\(..|\\\[[^\]]*\]"), ""),
]


def _roff_text(text: str) -> str:
    text = re.sub(r'\\".*$', "", text)
    for pattern, replacement in _ROFF_ESCAPES:
        text = pattern.sub(replacement, text)
    return text


def _roff_arguments(rest: str) -> list[str]:
    return [quoted.replace('""', '"') if quoted else bare
            for quoted, bare in re.findall(r'"((?:[^"]|"")*)"?|(\S+)', rest)]


def _read_man(text: str) -> tuple[str, list[Section]]:
    """Enough of man(7) for translated pages; mdoc(7) pages come out thin and are dropped later."""
    title, sections, lines, heading = "", [], [], ""
    parenthesised = False  # inside a table or an equation, whose source is not prose

    def flush():
        sections.append(Section(_tidy_heading(_roff_text(heading)), _tidy("\n".join(lines))))
        lines.clear()

    for line in text.split("\n"):
        if line.startswith((".TS", ".EQ", ".ig", ".de")):
            parenthesised = True
        if parenthesised:
            if line.startswith((".TE", ".EN", "..")):
                parenthesised = False
            continue
        if not line.startswith((".", "'")):
            lines.append(_roff_text(line))
            continue
        match = re.match(r"[.']\s*(\w+)\s*(.*)", line)
        if not match:
            continue
        macro, arguments = match.group(1), _roff_arguments(match.group(2))
        if macro == "TH" and arguments:
            section = arguments[1] if len(arguments) > 1 else ""
            title = _roff_text(arguments[0]).lower() + (f"({section})" if section else "")
        elif macro in ("SH", "SS"):
            flush()
            heading = " ".join(arguments)
        elif macro in ("B", "I", "SM", "SB", "TQ"):
            lines.append(_roff_text(" ".join(arguments)))
        elif macro in ("BR", "BI", "IB", "IR", "RB", "RI"):
            lines.append(_roff_text("".join(arguments)))
        elif macro == "IP" and arguments:
            lines.append(_roff_text(arguments[0]))
    flush()
    # Source lines of a paragraph are wrapped by hand; join them so that the model learns prose.
    return title, [Section(s.heading, re.sub(r"(?<=[^\n.:;])\n(?=[^\n\-])", " ", s.text)) for s in sections]


def _read_markdown(text: str) -> list[Section]:
    sections, heading, lines, fenced = [], "", [], False
    for line in text.split("\n"):
        if line.startswith("```"):
            fenced = not fenced
        match = None if fenced else re.match(r"#{1,4}\s+(.*)", line)
        if match:
            sections.append(Section(_tidy_heading(heading), _tidy("\n".join(lines))))
            heading, lines = match.group(1), []
        else:
            lines.append(line)
    sections.append(Section(_tidy_heading(heading), _tidy("\n".join(lines))))
    return sections


def _unpacked(raw: bytes) -> bytes | None:
    """The content of a gzip file, or None where it is none, or too large."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            content = packed.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        return None
    return content if len(content) <= MAX_FILE_BYTES else None


def why_unreadable(raw: bytes) -> str:
    """What read_document missed in a file that it made nothing of."""
    if not raw:
        return "empty"
    if len(raw) > MAX_FILE_BYTES:
        return f"over {MAX_FILE_BYTES >> 20} MiB"
    return "binary" if b"\0" in raw[:_PROBE_BYTES] else "without prose"


def read_document(path: pathlib.Path, name: str, raw: bytes | None = None) -> Document | None:
    """Reads one file (or its bytes, where they are at hand), or None where it holds no prose: empty, binary, too large."""
    raw = path.read_bytes() if raw is None else raw
    base = path.name
    if base.endswith(".gz"):
        raw = _unpacked(raw) or b""
        base = base[:-3]
    if len(raw) > MAX_FILE_BYTES or b"\0" in raw[:_PROBE_BYTES]:
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    title = ""
    if pathlib.PurePath(base).suffix.lower() in _HTML_SUFFIXES:
        sections = _read_html(text)
    elif _MAN_SUFFIX.search(base):
        title, sections = _read_man(text)
    else:
        sections = _read_markdown(text)
    kept = tuple(s for s in sections if len(s.text) >= MIN_SECTION_CHARACTERS)
    if not kept:
        return None
    title = title or next((s.heading for s in sections if s.heading), pathlib.PurePath(base).stem)
    return Document(name, title, kept)


def list_files(folder: pathlib.Path, globs: list[str], limit: int = 0) -> list[tuple[pathlib.Path, str]]:
    """(path, path relative to `folder`) of the files that match any of `globs`, in order of names.

    A positive `limit` keeps that many, spread evenly over the list, so that a large corpus is sampled and not cut off.
    Raises ValueError naming the folder when nothing matches.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    found = {p for pattern in globs for p in folder.glob(pattern) if p.is_file() and not p.is_symlink()}
    files = sorted((p, str(p.relative_to(folder))) for p in found)
    if not files:
        raise ValueError(f"no file under {folder} matches {globs}")
    if limit and len(files) > limit:
        files = [files[i * len(files) // limit] for i in range(limit)]
    return files
