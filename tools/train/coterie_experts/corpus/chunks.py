"""Documents to chunks: runs of text short enough to embed whole, cut where a reader would pause."""

from __future__ import annotations

import bisect
import dataclasses

from coterie_experts.corpus.sources import CorpusDocument

DEFAULT_CHARACTERS = 900  # about 220 tokens of English: the encoder reads 256, a training example holds 256
_PAUSES = ("\n\n", "\n", ". ", "; ", ", ", " ")


@dataclasses.dataclass(frozen=True)
class Chunk:
    begin: int  # characters of the document's text
    end: int
    heading: str  # of the section it begins in
    text: str


def _cut(text: str, begin: int, limit: int) -> int:
    """Where the chunk that starts at `begin` ends: after the best pause in the second half of its room."""
    if len(text) - begin <= limit:
        return len(text)
    for pause in _PAUSES:
        at = text.rfind(pause, begin + limit // 2, begin + limit)
        if at >= 0:
            return at + len(pause)
    return begin + limit


def split(document: CorpusDocument, characters: int = DEFAULT_CHARACTERS) -> list[Chunk]:
    """Chunks of at most `characters`, but for a last one that takes in a remainder too short to stand alone."""
    text, chunks, begin = document.text, [], 0
    starts = [position for position, _ in document.headings]
    while begin < len(text):
        end = _cut(text, begin, characters)
        if len(text) - end < characters // 4:
            end = len(text)
        if piece := text[begin:end].strip():
            section = max(0, bisect.bisect_right(starts, begin) - 1)
            chunks.append(Chunk(begin, end, document.headings[section][1], piece))
        begin = end
    return chunks
