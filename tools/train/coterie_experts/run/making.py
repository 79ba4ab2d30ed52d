"""The way from sources to a run: documents, chunks, near-duplicates, splits, embeddings, clusters, names."""

from __future__ import annotations

import collections
import dataclasses
import datetime
from typing import Callable

import numpy as np

from coterie_experts.clustering import density, spherical, terms
from coterie_experts.corpus import chunks as chunking
from coterie_experts.corpus import near_duplicates, splits
from coterie_experts.corpus.sources import CorpusDocument, Skipped, Source, read_source
from coterie_experts.corpus.splits import OUTSIDE, TRAIN, VALIDATION
from coterie_experts.errors import Refused
from coterie_experts.progress import bar, say
from coterie_experts.run.manifest import ChunkRecord, ClusterRecord, DocumentRecord, Manifest, SourceRecord

_MIN_SAMPLE = 20  # chunks of a source that any split keeps, however small its share
Embed = Callable[[list[str]], np.ndarray]  # texts -> [n_texts, dim] float32 of unit norm


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the outcome, beside the text and the embedder."""
    method: str = "kmeans"           # kmeans, hdbscan or labels
    n_clusters: int = 8              # of kmeans
    min_cluster_size: int = 50       # chunks, of hdbscan
    held_out: float = 0.1            # share of each source's documents that only evaluation sees
    validation: float = 0.05         # share that only calibration sees
    chunk_characters: int = chunking.DEFAULT_CHARACTERS
    near_duplicates: float = near_duplicates.DEFAULT_THRESHOLD  # Jaccard similarity; 0 keeps all
    max_chunks_per_source: int = 0   # training chunks, an even sample, and of the other splits in proportion; 0: all
    seed: int = 1


def read_documents(sources: list[Source]) -> tuple[list[CorpusDocument], Skipped]:
    """All documents. Raises Refused where a source has none, or where there are fewer than two altogether."""
    documents, skipped = [], Skipped()
    for source in sources:
        of_source = list(bar(read_source(source, skipped), what=f"reading {source.name}", unit="document"))
        if not of_source:
            raise Refused(f"source {source.name} ({source.path}) holds no readable text: {skipped or 'it is empty'}")
        documents += of_source
    if skipped.counts:
        say(f"left out: {skipped}")
    if len(documents) < 2:
        raise Refused(f"{len(documents)} document: at least 2 are needed, one to train on and one to hold out")
    return documents, skipped


def split_all(documents: list[CorpusDocument], sources: list[Source], settings: Settings) -> list[str]:
    """The split of each document; those of a source that is held out wholly are OUTSIDE."""
    outside = {source.name for source in sources if source.holdout}
    parts = [OUTSIDE] * len(documents)
    for name in dict.fromkeys(d.source for d in documents if d.source not in outside):
        members = [i for i, d in enumerate(documents) if d.source == name]
        found = splits.split_documents([documents[i].name for i in members], settings.held_out, settings.validation, settings.seed)
        for i, part in zip(members, found):
            parts[i] = part
    return parts


def make_chunks(documents: list[CorpusDocument], parts: list[str], settings: Settings) -> tuple[list[ChunkRecord], int]:
    """(chunks without near-duplicates, how many of these were dropped)."""
    found = [ChunkRecord(i, c.begin, c.end, c.heading, part, -1, c.text)
             for i, (document, part) in enumerate(zip(documents, parts))
             for c in chunking.split(document, settings.chunk_characters)]
    if not settings.near_duplicates:
        return _sampled(found, documents, settings), 0
    # Training text is the first of those alike, so what is held out resembles none of it.
    order = sorted(range(len(found)), key=lambda i: splits.SPLITS.index(found[i].split))
    stays = dict(zip(order, near_duplicates.kept((found[i].text for i in order), settings.near_duplicates)))
    unique = [chunk for i, chunk in enumerate(found) if stays[i]]
    return _sampled(unique, documents, settings), len(found) - len(unique)


def _sampled(chunks: list[ChunkRecord], documents: list[CorpusDocument], settings: Settings) -> list[ChunkRecord]:
    """An even sample of each source's training chunks, and of its other chunks in proportion."""
    if not settings.max_chunks_per_source:
        return chunks
    members = collections.defaultdict(list)
    for i, chunk in enumerate(chunks):
        members[documents[chunk.document].source, chunk.split].append(i)
    share = {TRAIN: 1.0, VALIDATION: settings.validation}
    kept = set()
    for (_, split), found in members.items():
        limit = min(len(found), max(_MIN_SAMPLE, round(settings.max_chunks_per_source * share.get(split, settings.held_out))))
        kept |= {found[i * len(found) // limit] for i in range(limit)}
    return [chunk for i, chunk in enumerate(chunks) if i in kept]


def find_centroids(points: np.ndarray, n_documents: int, settings: Settings) -> np.ndarray:
    """[n_clusters, dim] of the training chunks' embeddings `points` [n_chunks, dim]."""
    if settings.method == "hdbscan":
        return density.hdbscan(points, settings.min_cluster_size)
    if settings.n_clusters > n_documents:
        raise Refused(f"--clusters {settings.n_clusters} is more than the {n_documents} documents to train on")
    centroids = spherical.spherical_kmeans(points, settings.n_clusters, settings.seed)
    if len(centroids) < settings.n_clusters:
        raise Refused(f"--clusters {settings.n_clusters} is more than the {len(centroids)} chunks that differ")
    return centroids


def make_run(sources: list[Source], settings: Settings, embed: Embed, base: dict, embedder: dict):
    """(manifest, chunks, embeddings [n_chunks, dim], centroids [n_clusters, dim]). Raises Refused."""
    documents, skipped = read_documents(sources)
    parts = split_all(documents, sources, settings)
    if TRAIN not in parts:
        raise Refused("every source is held out: nothing is left to train on")
    n_training = parts.count(TRAIN)
    if settings.method == "kmeans" and settings.n_clusters > n_training:
        raise Refused(f"--clusters {settings.n_clusters} is more than the {n_training} documents to train on ({len(documents)} in all)")
    chunks, n_dropped = make_chunks(documents, parts, settings)
    say(f"{len(documents)} documents, {len(chunks)} chunks ({n_dropped} near-duplicates dropped)")
    points = embed([chunk.text for chunk in chunks])
    train = np.array([i for i, chunk in enumerate(chunks) if chunk.split == TRAIN])
    labels = list(dict.fromkeys(documents[chunks[i].document].source for i in train))
    if settings.method == "labels":
        by_label = np.array([labels.index(documents[c.document].source) if c.split != OUTSIDE else -1 for c in chunks])
        owner, centroids = by_label, spherical.means(points[train], by_label[train], len(labels))
    else:
        centroids = find_centroids(points[train], n_training, settings)
        owner, _ = spherical.assign(points, centroids)
    for chunk, cluster in zip(chunks, owner):
        chunk.cluster = -1 if chunk.split == OUTSIDE else int(cluster)
    clusters = describe(chunks, documents, len(centroids), labels if settings.method == "labels" else None)
    manifest = Manifest(
        settings=dataclasses.asdict(settings), base=base, embedder={**embedder, "dim": points.shape[1]},
        sources=[SourceRecord(s.name, str(s.path), s.licence, sum(d.source == s.name for d in documents), s.holdout) for s in sources],
        documents=[DocumentRecord(d.source, str(d.path.resolve()), d.name, d.digest, d.title, part) for d, part in zip(documents, parts)],
        clusters=clusters, dropped={"near_duplicates": n_dropped, "unreadable": skipped.counts}, files={},
        made=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"))
    return manifest, chunks, points, centroids


def describe(chunks: list[ChunkRecord], documents: list[CorpusDocument], n_clusters: int, labels: list[str] | None) -> list[ClusterRecord]:
    """Names and figures of the clusters, from their training chunks."""
    members = [[c for c in chunks if c.cluster == k] for k in range(n_clusters)]
    training = [[c for c in of_cluster if c.split == TRAIN] for of_cluster in members]
    telling = terms.telling_terms([[c.text for c in of_cluster] for of_cluster in training])
    names = [terms.name_of_label(label) for label in labels] if labels else terms.names_of(telling)
    records = []
    for k in range(n_clusters):
        origins = collections.Counter(documents[c.document].source for c in training[k])
        shares = {source: round(count / len(training[k]), 4) for source, count in origins.most_common()}
        records.append(ClusterRecord(k, names[k], telling[k], dict(collections.Counter(c.split for c in members[k])),
                                     sum(len(c.text) for c in training[k]), shares))
    return records
