"""The pictures of an evaluation."""

from __future__ import annotations

import base64
import io
from typing import Sequence


def as_image(figure) -> str:
    """An HTML element with the picture inside."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, bbox_inches="tight")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}">'


def as_svg(figure) -> str:
    """The same bytes for the same figures."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "coterie", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    return out.getvalue()


def _axes(width: float, height: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _bar_groups(axes, series: dict[str, list[float]], names: list[str], **of_names) -> None:
    """A group of bars for each of `names`, one of each series in it."""
    width = 0.8 / len(series)
    for i, (label, values) in enumerate(series.items()):
        axes.bar([group + i * width for group in range(len(names))], values, width, label=label)
    axes.set_xticks([group + 0.4 - width / 2 for group in range(len(names))], names, **of_names)


def policies_figure(policies: dict):
    figure, axes = _axes(8, 0.35 * len(policies) + 1)
    names = sorted(policies, key=lambda name: -policies[name]["loss"])
    axes.barh(names, [policies[n]["loss"] for n in names], color=["#888" if n == "base" else "#37a" for n in names])
    lowest = min(p["loss"] for p in policies.values())
    axes.set_xlim(left=lowest * 0.9)
    axes.set_xlabel("held-out loss, nats per token (the axis does not begin at 0)")
    return figure


def domains_figure(policies: dict, shown: Sequence[str]):
    domains = sorted(policies["base"]["by_domain"])
    figure, axes = _axes(9, 4)
    _bar_groups(axes, {name: [policies[name]["by_domain"][d] for d in domains] for name in shown}, domains, rotation=30, ha="right")
    axes.set_ylabel("nats per token")
    axes.legend()
    return figure


def matrix_figure(matrix: dict[str, dict[str, float]]):
    """Loss of each candidate on each domain, less the base's: blue is better than the base."""
    names = [name for name in matrix if name != "base"]
    domains = sorted(matrix["base"])
    gains = [[matrix[name][d] - matrix["base"][d] for d in domains] for name in names]
    limit = max(abs(g) for row in gains for g in row) or 1.0
    figure, axes = _axes(2 + 0.6 * len(domains), 1 + 0.35 * len(names))
    shown = axes.imshow(gains, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(len(domains)), domains, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    figure.colorbar(shown, label="nats per token, less the base's")
    return figure


def settings_figure(names: list[str], below_base: dict[str, list[float]], everything: float):
    """Perplexity below the base for each setting, a group of bars each; `everything` is a line across."""
    figure, axes = _axes(8, 4)
    _bar_groups(axes, {name: [100 * share for share in shares] for name, shares in below_base.items()}, names)
    axes.axhline(100 * everything, color="#888", linestyle="--", label="one adapter on everything")
    axes.set_ylabel("perplexity below the base, %")
    axes.legend(fontsize="small")
    return figure
