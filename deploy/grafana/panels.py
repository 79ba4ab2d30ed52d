"""What the dashboards are written in: panels of a few kinds, laid out row by row, and their Grafana JSON."""

from __future__ import annotations

import dataclasses
import re

WIDTH = 24  # of Grafana's grid
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECTOR = re.compile(r"\b((?:coterie_|vllm:)[a-z_]+)(\{[^}]*\})?")


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    unit: str  # as Grafana names it
    queries: tuple[tuple[str, str], ...]  # PromQL and legend
    description: str
    kind: str = "timeseries"  # or stat, heatmap
    width: int = 8
    height: int = 8
    when: str = ""  # no data otherwise, and none is missed


@dataclasses.dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclasses.dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]


def panel(title, unit, description, *queries, **more) -> Panel:
    return Panel(title, unit, tuple(queries), description, **more)


def quantiles(name: str, by: str = "", of=(0.5, 0.95, 0.99)) -> list[tuple[str, str]]:
    """Of a histogram; by a label, one quantile at a time reads better."""
    labels = "le" + (f", {by}" if by else "")
    legend = f"{{{{{by}}}}}" if by else "p{:g}"
    return [(f"histogram_quantile({q}, sum by ({labels}) (rate({name}_bucket[$__rate_interval])))",
             legend.format(q * 100) if not by else legend) for q in of]


def rate(name: str, by: str = "", selector: str = "") -> str:
    return f"sum by ({by}) (rate({name}{selector}[$__rate_interval]))" if by else f"sum(rate({name}{selector}[$__rate_interval]))"


def ratio(part: str, whole: str) -> str:
    """Nothing, rather than 0/0, while nothing happens."""
    return f"({part}) / (({whole}) > 0)"


def with_job(expression: str) -> str:
    """Every selector of ours follows the dashboard's variable."""
    def add(match):
        inside = (match.group(2) or "{}")[1:-1]
        return f'{match.group(1)}{{{inside + ", " if inside else ""}job=~"$job"}}'
    return SELECTOR.sub(add, expression)


def _panel_json(number: int, panel: Panel, x: int, y: int) -> dict:
    targets = [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": with_job(expr), "legendFormat": legend,
                "range": panel.kind != "stat", "instant": panel.kind == "stat",
                **({"format": "heatmap"} if panel.kind == "heatmap" else {})}
               for i, (expr, legend) in enumerate(panel.queries)]
    out = {"id": number, "type": panel.kind, "title": panel.title, "description": panel.description, "datasource": DATASOURCE,
           "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height}, "targets": targets,
           "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0} if panel.unit != "none" else {"unit": "none"}, "overrides": []}}
    if panel.kind == "timeseries":
        out["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    elif panel.kind == "stat":
        out["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    else:
        out["options"] = {"calculate": False, "yAxis": {"unit": panel.unit}}
    return out


def to_json(dashboard: Dashboard) -> dict:
    panels, y = [], 0
    for row in dashboard.rows:
        panels.append({"id": len(panels) + 1, "type": "row", "title": row.title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        y, x, tallest = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                y, x, tallest = y + tallest, 0, 0
            panels.append(_panel_json(len(panels) + 1, panel, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source", "current": {}},
        {"name": "job", "type": "query", "label": "Job", "datasource": DATASOURCE, "refresh": 2, "multi": True, "includeAll": True,
         "allValue": ".*", "current": {"text": "All", "value": "$__all"},
         "query": {"refId": "job", "query": "label_values({__name__=~\"coterie_requests_running|coterie_worker_steps_total\"}, job)"}},
    ]
    return {"id": None, "uid": dashboard.uid, "title": dashboard.title, "description": dashboard.description, "tags": ["coterie"],
            "schemaVersion": 39, "version": 1, "editable": True, "refresh": "10s", "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser", "templating": {"list": variables}, "annotations": {"list": []}, "panels": panels,
            "links": [{"type": "dashboards", "tags": ["coterie"], "title": "Coterie", "asDropdown": True, "includeVars": True,
                       "keepTime": True}]}
