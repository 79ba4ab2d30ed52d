"""A run: one folder with a manifest, which says what text belongs to which cluster and to which split, and what made it so.

    RUN/manifest.json           this, written last: a run without it is not begun
    RUN/chunks.jsonl            {document, begin, end, heading, split, cluster, text} a line
    RUN/embeddings.npy          [n_chunks, dim] float32 of unit norm, row i of chunk i
    RUN/centroids.npy           [n_clusters, dim] float32 of unit norm
    RUN/sets/<set>/<name>/      trained adapters (training/sets.py)
"""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib

import numpy as np

from coterie_experts.corpus import sources as corpus_sources
from coterie_experts.corpus.splits import TRAIN
from coterie_experts.errors import Refused
from coterie_experts.files import read_json, sha256, sha256_of_file, write_atomically, write_json
from coterie_experts.progress import bar

FORMAT = 1
MANIFEST, CHUNKS, EMBEDDINGS, CENTROIDS = "manifest.json", "chunks.jsonl", "embeddings.npy", "centroids.npy"


@dataclasses.dataclass
class SourceRecord:
    name: str
    path: str
    licence: str
    documents: int
    holdout: bool


@dataclasses.dataclass
class DocumentRecord:
    source: str
    path: str    # of the file that holds it
    name: str    # unique in its source
    sha256: str  # of the file, or of the line's text
    title: str
    split: str


@dataclasses.dataclass
class ChunkRecord:
    document: int  # index into Manifest.documents
    begin: int     # characters of the document's text
    end: int
    heading: str
    split: str
    cluster: int   # nearest centroid's; -1 for text kept out of training altogether
    text: str


@dataclasses.dataclass
class ClusterRecord:
    index: int
    name: str
    terms: list[str]
    chunks: dict[str, int]       # by split
    characters: int              # of its training chunks
    sources: dict[str, float]    # share of each source in its training chunks, largest first


@dataclasses.dataclass
class Manifest:
    settings: dict               # everything that decided the outcome, seed included
    base: dict                   # {name, digest: the product's, file_sha256: of the model file or ""}
    embedder: dict               # {name, digest, dim}
    sources: list[SourceRecord]
    documents: list[DocumentRecord]
    clusters: list[ClusterRecord]
    dropped: dict                # {near_duplicates: chunks, unreadable: {reason: files}}
    files: dict[str, str]        # SHA-256 of the other files of the run
    made: str                    # date and time, UTC
    format: int = FORMAT


@dataclasses.dataclass
class Run:
    """A manifest and what lies beside it."""
    folder: pathlib.Path
    manifest: Manifest
    chunks: list[ChunkRecord]

    def embeddings(self) -> np.ndarray:
        """[n_chunks, dim] float32."""
        return self._array(EMBEDDINGS)

    def centroids(self) -> np.ndarray:
        """[n_clusters, dim] float32."""
        return self._array(CENTROIDS)

    def chunks_of(self, cluster: int | None, split: str = TRAIN) -> list[int]:
        """Indices of a cluster's chunks; of all clusters' for None."""
        return [i for i, c in enumerate(self.chunks) if c.split == split and c.cluster >= 0 and cluster in (None, c.cluster)]

    def check_corpus(self) -> None:
        """Refused, naming the file, when the corpus is not what the manifest was made of."""
        by_path: dict[str, dict[str, str]] = {}
        for document in self.manifest.documents:
            by_path.setdefault(document.path, {})[document.name] = document.sha256
        for path, digests in bar(by_path.items(), what="checking the corpus", unit="file"):
            corpus_sources.check_unchanged(pathlib.Path(path), digests)

    def _array(self, name: str) -> np.ndarray:
        path = self.folder / name
        if sha256_of_file(path) != self.manifest.files.get(name):
            raise Refused(f"{path} is not the file that {MANIFEST} was written with; run `coterie-experts cluster` again")
        return np.load(path, allow_pickle=False)


def save(folder: pathlib.Path, manifest: Manifest, chunks: list[ChunkRecord], embeddings: np.ndarray, centroids: np.ndarray) -> Run:
    """Writes the run, its manifest last. Adapters of an earlier manifest stay; they know by their fingerprint what they are of."""
    def array_bytes(array: np.ndarray) -> bytes:
        out = io.BytesIO()
        np.save(out, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
        return out.getvalue()

    lines = "".join(json.dumps(dataclasses.asdict(c), ensure_ascii=False) + "\n" for c in chunks).encode()
    contents = {CHUNKS: lines, EMBEDDINGS: array_bytes(embeddings), CENTROIDS: array_bytes(centroids)}
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    manifest.files = {name: sha256(content) for name, content in contents.items()}
    write_json(folder / MANIFEST, dataclasses.asdict(manifest))
    return Run(folder, manifest, chunks)


def load(folder: pathlib.Path) -> Run:
    """Refused for what is no run, or not whole."""
    path = folder / MANIFEST
    if not path.is_file():
        raise Refused(f"{folder} holds no {MANIFEST}; make one with `coterie-experts cluster … --out {folder}`")
    values = read_json(path)
    try:
        if values.get("format") != FORMAT:
            raise Refused(f"{path} has format {values.get('format')!r}, this version reads {FORMAT}; run `coterie-experts cluster` again")
        manifest = Manifest(**values)
        manifest.sources = [SourceRecord(**v) for v in manifest.sources]
        manifest.documents = [DocumentRecord(**v) for v in manifest.documents]
        manifest.clusters = [ClusterRecord(**v) for v in manifest.clusters]
        raw = (folder / CHUNKS).read_bytes()
        if sha256(raw) != manifest.files[CHUNKS]:
            raise Refused(f"{folder / CHUNKS} is not the file that {MANIFEST} was written with; run `coterie-experts cluster` again")
        chunks = [ChunkRecord(**json.loads(line)) for line in raw.split(b"\n") if line]
    except OSError as error:
        raise Refused(f"cannot read {folder}: {error.strerror}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Refused(f"{folder} is no run that this version reads: {error!r}") from error
    return Run(folder, manifest, chunks)
