"""common/metrics.toml, the table of all metrics, and what can be asked of a PromQL expression that names them. Standard
library only."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "common/metrics.toml"
PROCESSES = {"gateway": ("gateway",), "worker": ("worker",), "both": ("gateway", "worker")}
TYPES = ("counter", "gauge", "histogram")
# What the end of a name says. A gauge without a unit counts things.
UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "0 to 1", "celsius": "°C", "watts": "W", "hertz": "Hz",
         "nats": "nats per token", "perc": "0 to 1"}
# Labels that a scrape adds.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "service", "le"}

NAME = re.compile(r"\b(?:coterie_|vllm:)[a-z_]+")
SELECTOR = re.compile(r"\b((?:coterie_|vllm:)[a-z_]+)\s*(\{[^}]*\})?")
LABEL_IN_SELECTOR = re.compile(r"([A-Za-z_]+)\s*(?:=~|!~|!=|=)")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclasses.dataclass(frozen=True)
class Metric:
    name: str
    of: str  # gateway or worker
    type: str
    help: str
    labels: tuple[str, ...]
    when: str  # a condition; empty: it is always there

    @property
    def unit(self) -> str:
        words = self.name.removesuffix("_total").split("_")
        return UNITS.get(words[-1], "")

    def series(self) -> set[str]:
        """The names under which Prometheus stores it."""
        if self.type == "histogram":
            return {f"{self.name}_{part}" for part in ("bucket", "sum", "count")}
        return {self.name}


def load(text: str | None = None) -> list[Metric]:
    """ValueError naming the entry that is wrong."""
    metrics = []
    for section, entries in tomllib.loads(FILE.read_text() if text is None else text).items():
        if section not in PROCESSES:
            raise ValueError(f"[{section}]: a section is one of {', '.join(PROCESSES)}")
        for name, entry in entries.items():
            where = f"[{section}.{name}]"
            if extra := set(entry) - {"type", "labels", "help", "when"}:
                raise ValueError(f"{where}: unknown {', '.join(sorted(extra))}")
            if entry.get("type") not in TYPES:
                raise ValueError(f"{where}: type is {entry.get('type')!r}, not one of {', '.join(TYPES)}")
            if not NAME.fullmatch(name):
                raise ValueError(f"{where}: a name begins with coterie_ (or vllm:) and has small letters only")
            if (entry["type"] == "counter") != name.endswith("_total"):
                raise ValueError(f"{where}: a counter, and nothing else, ends in _total")
            if not entry.get("help", "").endswith("."):
                raise ValueError(f"{where}: help is a sentence with its full stop")
            labels = entry.get("labels", [])
            if labels != sorted(set(labels)):
                raise ValueError(f"{where}: labels stand in order, each once")
            for of in PROCESSES[section]:
                metrics.append(Metric(name, of, entry["type"], entry["help"], tuple(labels), entry.get("when", "")))
    return metrics


def problems_of(expression: str, metrics: list[Metric]) -> list[str]:
    """Names and labels of an expression that no metric has."""
    labels_of: dict[str, set[str]] = {}
    for metric in metrics:
        for series in metric.series():
            labels_of.setdefault(series, set()).update(metric.labels)
    problems, known = [], set(TARGET_LABELS)
    for name, selector in SELECTOR.findall(expression):
        if name not in labels_of:
            problems.append(f"{name} is in no table of metrics ({FILE.name})")
            continue
        known |= labels_of[name]
        for label in LABEL_IN_SELECTOR.findall(re.sub(r'"(?:[^"\\]|\\.)*"', '""', selector)):
            if label not in labels_of[name] | TARGET_LABELS:
                problems.append(f"{name} has no label {label}")
    for group in GROUPING.findall(expression):
        for label in filter(None, (word.strip() for word in group.split(","))):
            if label not in known:
                problems.append(f"no metric of the expression has the label {label}")
    return problems
