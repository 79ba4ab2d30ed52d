"""Where text comes from: folders of files, JSON lines, or a list of several in YAML.

    my-documents/                 every readable file below it
    notes.jsonl[.gz]              a document a line: {"text": …, "title"?: …, "source"?: …}
    name=my-documents/            the same, under a name
    corpora.yaml                  sources: [{name, path, globs?, licence?, max_documents?, holdout?}]; paths relative to --corpora
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import pathlib
from typing import Iterator

import yaml

from coterie_experts.corpus import documents
from coterie_experts.errors import Refused
from coterie_experts.files import sha256

_LIST_SUFFIXES = {".yaml", ".yml"}
MAX_LINE_CHARACTERS = 8 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """One origin of text, with one licence. Its name is the label of the labelled variant."""
    name: str
    path: pathlib.Path
    globs: tuple[str, ...] = ("**/*",)
    licence: str = "unknown"
    max_documents: int = 0  # 0: all; otherwise spread evenly over the files in order of names
    holdout: bool = False   # kept wholly out of training


@dataclasses.dataclass(frozen=True)
class CorpusDocument:
    source: str
    path: pathlib.Path  # of the file that holds it
    name: str           # unique in its source
    digest: str         # SHA-256 of the file, or of the line's text: tells a changed corpus
    title: str
    text: str
    headings: tuple[tuple[int, str], ...]  # (position in `text`, heading), in order


@dataclasses.dataclass
class Skipped:
    """What could not be read, by reason, with one example each."""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.examples.setdefault(reason, name)

    def __str__(self) -> str:
        return ", ".join(f"{count} {reason} (such as {self.examples[reason]})" for reason, count in self.counts.items())


def read_sources(given: list[str], root: pathlib.Path | None, licence: str, holdout: list[str]) -> list[Source]:
    """The sources of the command line, in order. Raises Refused for one that is not there or named twice."""
    sources: list[Source] = []
    for text in given:
        name, _, rest = text.rpartition("=")
        path = pathlib.Path(rest)
        if path.suffix in _LIST_SUFFIXES and path.is_file():
            sources += _listed(path, root or path.parent)
        else:
            sources.append(Source(name or path.resolve().name.split(".")[0], path, licence=licence))
    for source in sources:
        if not source.path.exists():
            raise Refused(f"source {source.name}: {source.path} is not there")
    names = [source.name for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise Refused(f"source {sorted(twice)[0]!r} is there twice; name one of them: NAME=PATH")
    if unknown := set(holdout) - set(names):
        raise Refused(f"--holdout-source {sorted(unknown)[0]!r} is none of the sources {', '.join(names)}")
    return [dataclasses.replace(s, holdout=s.holdout or s.name in holdout) for s in sources]


def _listed(path: pathlib.Path, root: pathlib.Path) -> list[Source]:
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["sources"]
        known = {field.name for field in dataclasses.fields(Source)} | {"package"}
        sources = []
        for entry in entries:
            if unknown := set(entry) - known:
                raise Refused(f"{path}: source {entry.get('name')!r} has a field {sorted(unknown)[0]!r}; known are {', '.join(sorted(known))}")
            values = {**entry, "path": root / entry["path"], "globs": tuple(entry.get("globs", ["**/*"]))}
            values.pop("package", None)  # for fetch_corpora.py
            sources.append(Source(**values))
        return sources
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise Refused(f"{path} is no list of sources: {error!r}") from error


def read_source(source: Source, skipped: Skipped) -> Iterator[CorpusDocument]:
    """The source's documents in order of their names; what cannot be read is counted in `skipped`."""
    if source.path.is_file():
        yield from _read_lines(source, skipped)
        return
    try:
        files = documents.list_files(source.path, list(source.globs), source.max_documents)
    except ValueError as error:
        raise Refused(f"source {source.name}: {error}") from error
    for path, name in files:
        raw = path.read_bytes()
        document = documents.read_document(path, name, raw)
        if document is None:
            skipped.add(documents.why_unreadable(raw), str(path))
            continue
        text, headings = _flatten(document)
        yield CorpusDocument(source.name, path, name, sha256(raw), document.title, text, headings)


def _flatten(document: documents.Document) -> tuple[str, tuple[tuple[int, str], ...]]:
    """Sections one after the other, each under its heading."""
    text, headings = "", []
    for section in document.sections:
        text += "\n\n" if text else ""
        headings.append((len(text), section.heading))
        text += f"{section.heading}\n{section.text}" if section.heading else section.text
    return text, tuple(headings)


def _open_lines(path: pathlib.Path):
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")


def _read_lines(source: Source, skipped: Skipped) -> Iterator[CorpusDocument]:
    number, taken = 0, 0
    try:
        with _open_lines(source.path) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                if len(line) > MAX_LINE_CHARACTERS:
                    raise Refused(f"{source.path}:{number}: {len(line)} characters, at most {MAX_LINE_CHARACTERS} make a document")
                entry = json.loads(line)
                if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
                    raise Refused(f'{source.path}:{number}: no object with a "text"')
                text = entry["text"].strip()
                if len(text) < documents.MIN_SECTION_CHARACTERS:
                    skipped.add("too short", f"{source.path}:{number}")
                    continue
                if source.max_documents and taken >= source.max_documents:
                    return
                taken += 1
                title = str(entry.get("title", ""))
                yield CorpusDocument(str(entry.get("source", source.name)), source.path, f"line {number}", sha256(text), title, text, ((0, title),))
    except (ValueError, OSError) as error:  # bad JSON, bad UTF-8, no gzip
        raise Refused(f"{source.path}:{number}: {error}") from error


def check_unchanged(path: pathlib.Path, digests: dict[str, str]) -> None:
    """Refused, naming the file, unless its documents {name: digest} are those it had."""
    try:
        if path.as_posix().endswith(next(iter(digests))):  # a file of a folder is one document, named by its path
            changed = sha256(path.read_bytes()) not in digests.values()
        else:
            with _open_lines(path) as lines:
                now = {f"line {n}": line for n, line in enumerate(lines, 1) if f"line {n}" in digests}
            changed = len(now) < len(digests) or any(sha256(json.loads(line)["text"].strip()) != digests[name] for name, line in now.items())
    except OSError as error:
        raise Refused(f"{path}, of which the manifest was made, cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        changed = True
    if changed:
        raise Refused(f"{path} has changed since the manifest was made; run `coterie-experts cluster` again")
