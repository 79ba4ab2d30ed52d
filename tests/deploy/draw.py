"""Draws the panels from what Prometheus answered in cluster_test.py. Usage: draw.py ANSWERS.json FOLDER [--docs]: a picture of all
panels for each dashboard; with --docs a smaller one of six panels. Needs matplotlib."""

import json
import math
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "deploy/grafana"))

import dashboards
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import EngFormatter, PercentFormatter
from PIL import Image

# Those that docs/metrics.md shows.
FOR_DOCS = {
    "coterie-overview": ("Requests by end", "Time to first token", "Queue", "Tokens", "Workers by health", "Answers that moved"),
    "coterie-experts": ("Answers by expert", "First token by expert, p95", "Starts without a wait", "Wait of a cold start", "Evictions", "Workers that hold it"),
    "coterie-routing": ("Score of the nearest", "Margin to the next", "Left to the base", "Mean score by expert", "Loss under chosen, runner-up, base", "Embedding"),
    "coterie-workers": ("Sequences running", "Tokens generated", "Time of a step", "Prefix cache", "Busy", "Temperature"),
}
UNITS = {"s": "s", "bytes": "B", "Bps": "B/s", "reqps": "/s", "ops": "/s", "celsius": "°C", "watt": "W", "hertz": "Hz"}


def legend_of(pattern: str, labels: dict) -> str:
    for label, value in labels.items():
        pattern = pattern.replace("{{" + label + "}}", value)
    return pattern


def draw(axes, panel, answers):
    first = min((float(t) for _, found in answers for series in found for t, _ in series["values"]), default=0)
    for pattern, found in answers:
        for series in found:
            points = [(float(t) - first, float(v)) for t, v in series["values"] if math.isfinite(float(v))]
            if points:
                axes.plot(*zip(*points), marker="." if len(points) < 3 else None, linewidth=1.2, label=legend_of(pattern, series["metric"])[:28] or None)
    axes.set_title(panel.title, fontsize=8)
    axes.tick_params(labelsize=6)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0) if panel.unit == "percentunit" else EngFormatter(UNITS.get(panel.unit, "")))
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(fontsize=5, ncols=2, loc="best", framealpha=0.6)
    axes.grid(alpha=0.3)


def picture(panels, answers, columns: int, file: pathlib.Path, dpi: int):
    rows = math.ceil(len(panels) / columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(3.2 * columns, 1.9 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat[len(panels):]:
        axes.remove()
    for axes, panel in zip(grid.flat, panels):
        draw(axes, panel, answers[panel.title])
    figure.savefig(file, dpi=dpi)
    pyplot.close(figure)
    with Image.open(file) as drawn:
        drawn.convert("RGB").quantize(48).save(file, optimize=True)


def main():
    answers, folder = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in dashboards.ALL:
        panels = dashboard.panels()
        name = dashboard.uid.removeprefix("coterie-")
        if "--docs" in sys.argv:
            panels = [next(p for p in panels if p.title == title) for title in FOR_DOCS[dashboard.uid]]
            picture(panels, answers[dashboard.uid], 3, folder / f"{name}.png", 70)
        else:
            picture(panels, answers[dashboard.uid], 4, folder / f"{name}.png", 80)


if __name__ == "__main__":
    main()
