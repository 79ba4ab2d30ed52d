"""Makes docs/metrics.md and the dashboards (deploy/helm/coterie/files/dashboards) from common/metrics.toml and
deploy/grafana. `--check`: writes nothing and fails where they are out of date. Standard library only."""

import json
import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1] / "grafana")]

import dashboards
import panels
import table

CHART_FILES = table.ROOT / "deploy/helm/coterie/files"


def page(metrics) -> str:
    lines = ["# Metrics", "",
             "<!-- Made by deploy/metrics/generate.py from common/metrics.toml; change that and run it. -->", "",
             "Both programs serve `/metrics` in Prometheus' text format (`--metrics-port`; the gateway's HTTP listener too). The end of a name is its",
             "unit; counters end in `_total`, histograms have `_bucket`, `_sum` and `_count`. Where the last column is empty, a metric is always there, but",
             "one with labels only once something was counted under them.", "",
             "Labels whose values users choose are bounded: the experts that are asked most (50 in a gateway, 100 in a worker) and the busiest 100 tenants have",
             "series of their own, all others share `other`. When one gains or loses its place, its series begin at 0 or end; `other` only grows.", "",
             "`coterie_worker_adapters_resident` and `coterie_worker_preemptions_total` come from workers and, with the label `worker`, from gateways,",
             'which repeat what workers told them: select `{worker=""}` or `{worker!=""}`, or a sum counts them twice.']
    for of, title in (("gateway", "coterie-gateway"), ("worker", "coterie-worker")):
        lines += ["", f"## {title}", "", "| metric | type | labels | what | there |", "|---|---|---|---|---|"]
        lines += [f"| `{m.name}` | {m.type}{', ' + m.unit if m.unit else ''} | {', '.join(f'`{label}`' for label in m.labels)} | {m.help} | {m.when} |"
                  for m in sorted(metrics, key=lambda m: m.name) if m.of == of]
    lines += ["", "## Dashboards and alerts", "",
              "Four Grafana dashboards lie in `deploy/helm/coterie/files/dashboards`: import them by hand (each asks for its Prometheus), or let the",
              "chart bring them as ConfigMaps. Their alerts are `deploy/helm/coterie/files/alerts.yaml`; [operations.md](operations.md#alerts) says what to do when one fires.",
              "Everything they ask for stands in the table above: `tests/deploy/table_test.py` fails where it does not, and `tools/test deploy` puts every panel's question to a",
              "real Prometheus that scraped a loaded cluster.", ""]
    for dashboard in dashboards.ALL:
        picture = f"metrics/{dashboard.uid.removeprefix('coterie-')}.png"
        lines += [f"**{dashboard.title.removeprefix('Coterie: ').capitalize()}** (`{dashboard.uid}`). {dashboard.description}", ""]
        if (table.ROOT / "docs" / picture).is_file():
            lines += [f"![some panels of {dashboard.title}]({picture})", ""]
    lines += ["The pictures are drawn from what a Prometheus answered in a run of `tools/test deploy`: a fake cluster of three workers, of which one has a stand-in for a GPU's driver, with load",
              "for half a minute, so their numbers say nothing about speed."]
    return "\n".join(lines) + "\n"


def outputs() -> dict[pathlib.Path, str]:
    metrics = table.load()
    out = {table.ROOT / "docs/metrics.md": page(metrics)}
    for dashboard in dashboards.ALL:
        for panel in dashboard.panels():
            for expression, _ in panel.queries:
                if problems := table.problems_of(expression, metrics):
                    sys.exit(f"{dashboard.title}, {panel.title}: {'; '.join(problems)}")
        out[CHART_FILES / f"dashboards/{dashboard.uid}.json"] = json.dumps(panels.to_json(dashboard), indent=1) + "\n"
    return out


def stale() -> list[str]:
    made = outputs()
    extra = [p for p in (CHART_FILES / "dashboards").glob("*") if p not in made]
    return [f"{path.relative_to(table.ROOT)} is out of date: run python3 deploy/metrics/generate.py" for path, text in made.items()
            if not path.is_file() or path.read_text() != text] + [f"{p.relative_to(table.ROOT)} is made by nothing" for p in extra]


if __name__ == "__main__":
    if "--check" in sys.argv:
        if problems := stale():
            sys.exit("\n".join(problems))
    else:
        for path, text in outputs().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
