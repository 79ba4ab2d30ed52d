#!/usr/bin/env python3
"""Fetches the text that corpora.yaml lists: Debian packages, unpacked but not installed.

    fetch_corpora.py corpora/            # all packages that corpora.yaml names
    fetch_corpora.py corpora/ dict-foo   # only these

Needs a Debian (bookworm) with apt-get and dpkg, and PyYAML. Three sources are no text files and are converted to Markdown:
the Bible (read with the package's own `bible` program), WordNet (its noun table) and FOLDOC (a dictd file).
"""

from __future__ import annotations

import argparse
import gzip
import pathlib
import re
import subprocess
import sys

import yaml

BOOK_CHAPTER = re.compile(r"^(\d?[A-Za-z]+?)(\d+):(\d+) (.*)")
# WordNet's lexicographer files: animals, body parts, food, plants.
NATURE_FILES = {"05": "animal", "08": "body part", "13": "food", "20": "plant"}


def fetch(package: str, folder: pathlib.Path) -> None:
    target = folder / package
    if target.is_dir():
        return
    downloads = folder / "deb"
    downloads.mkdir(parents=True, exist_ok=True)
    if not list(downloads.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", package], cwd=downloads, check=True, stdout=subprocess.DEVNULL)
    partial = folder / f"{package}.partial"
    subprocess.run(["dpkg", "-x", next(downloads.glob(f"{package}_*.deb")), partial], check=True)
    partial.rename(target)


def convert_bible(folder: pathlib.Path) -> None:
    """One Markdown file a chapter, a section for every ten verses."""
    out = folder / "bible-markdown"
    if out.is_dir():
        return
    fetch("bible-kjv", folder)
    program = (folder / "bible-kjv/usr/bin/bible").resolve()
    run = subprocess.run([program, "-f", "Gen1:1-Rev22:21"], cwd=folder / "bible-kjv-text/usr/lib", check=True,
                         stdin=subprocess.DEVNULL, capture_output=True, text=True)
    pretty = subprocess.run([program, "Gen1:1-Rev22:21"], cwd=folder / "bible-kjv-text/usr/lib", check=True,
                            stdin=subprocess.DEVNULL, capture_output=True, text=True)
    long_names = list(dict.fromkeys(re.findall(r"^((?:[1-3] )?[A-Z][A-Za-z ]+?) \d+$", pretty.stdout, re.MULTILINE)))
    books: dict[str, dict[int, list[str]]] = {}
    for line in run.stdout.splitlines():
        if match := BOOK_CHAPTER.match(line):
            book, chapter, verse, text = match.groups()
            books.setdefault(book, {}).setdefault(int(chapter), []).append(f"{verse} {text}")
    names = dict(zip(books, long_names)) if len(long_names) == len(books) else {b: b for b in books}
    out.mkdir()
    for book, chapters in books.items():
        for chapter, verses in chapters.items():
            lines = []
            for start in range(0, len(verses), 10):
                part = verses[start:start + 10]
                last = start + len(part)
                lines.append(f"# {names[book]} chapter {chapter}, verses {start + 1} to {last}\n\n" + "\n".join(part) + "\n")
            (out / f"{names[book].replace(' ', '-')}-{chapter:03}.md").write_text("\n".join(lines))


def convert_wordnet(folder: pathlib.Path) -> None:
    """Animals, plants, foods and parts of the body: what a thing is, what kind it belongs to. 24 entries a file."""
    out = folder / "wordnet-markdown"
    if out.is_dir():
        return
    entries, by_offset = {}, {}
    for line in (folder / "wordnet-base/usr/share/wordnet/data.noun").read_text().splitlines():
        if line.startswith("  "):
            continue
        data, _, gloss = line.partition(" | ")
        fields = data.split()
        n_words = int(fields[3], 16)
        words = [w.replace("_", " ") for w in fields[4:4 + 2 * n_words:2]]
        pointers = fields[5 + 2 * n_words:]
        by_offset[fields[0]] = words[0]
        parents = [pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] == "@"]
        members = [pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] in ("~", "%p")]
        if fields[1] in NATURE_FILES:
            entries[fields[0]] = (words, NATURE_FILES[fields[1]], gloss.strip(), parents, members)
    out.mkdir()
    texts = []
    for words, kind, gloss, parents, members in entries.values():
        if parents and by_offset.get(parents[0], "").endswith((" genus", " family")):
            continue  # taxonomists' names; nobody asks for them
        said = f"{words[0][0].upper()}{words[0][1:]}: {gloss.rstrip('.')}."
        if len(words) > 1:
            said += f" It is also called {', '.join(words[1:])}."
        if parents and parents[0] in by_offset:
            said += f" It is a kind of {by_offset[parents[0]]} ({kind})."
        known = [by_offset[m] for m in members if m in by_offset][:8]
        if len(known) > 1:
            said += f" Among its kinds and parts are {', '.join(known)}."
        if len(said) >= 120:
            texts.append(f"# {words[0]}\n\n{said}\n")
    for start in range(0, len(texts), 24):
        (out / f"nature-{start // 24:04}.md").write_text("\n".join(texts[start:start + 24]))


def convert_foldoc(folder: pathlib.Path) -> None:
    """The Free On-line Dictionary of Computing: a word at the margin, what it means indented. 60 entries a file."""
    out = folder / "foldoc-markdown"
    if out.is_dir():
        return
    with gzip.open(folder / "dict-foldoc/usr/share/dictd/foldoc.dict.dz", "rt", encoding="utf-8", errors="replace") as packed:
        text = packed.read()
    entries = []
    for block in re.split(r"\n(?=\S)", text):
        word, _, meaning = block.partition("\n")
        meaning = re.sub(r"[{}]|__", "", re.sub(r"\n +", "\n", meaning)).strip()
        if len(meaning) >= 120:
            entries.append(f"# {word.strip()}\n\n{meaning}\n")
    out.mkdir()
    for start in range(0, len(entries), 60):
        (out / f"foldoc-{start // 60:04}.md").write_text("\n".join(entries[start:start + 60]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where packages are unpacked (a few hundred megabytes)")
    parser.add_argument("packages", nargs="*", help="Debian packages (default: all that corpora.yaml names)")
    arguments = parser.parse_args()
    listed = yaml.safe_load((pathlib.Path(__file__).parent / "corpora.yaml").read_text())["sources"]
    for package in arguments.packages or sorted({source["package"] for source in listed}):
        print(package, flush=True)
        try:
            fetch(package, arguments.folder)
        except (subprocess.CalledProcessError, FileNotFoundError, StopIteration) as error:
            print(f"fetch_corpora: could not fetch {package}: {error}", file=sys.stderr)
            return 1
        if package == "bible-kjv-text":
            convert_bible(arguments.folder)
        if package == "wordnet-base":
            convert_wordnet(arguments.folder)
        if package == "dict-foldoc":
            convert_foldoc(arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
