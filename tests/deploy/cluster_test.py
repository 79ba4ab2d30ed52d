"""Every panel's question, put to a real Prometheus that scraped a real loaded cluster, has an answer in finite numbers; every alert can be evaluated; and what
the processes show is what common/metrics.toml says, by type, help and labels. Usage: cluster_test.py BIN PROMETHEUS [ANSWERS.json]:
what Prometheus answered is left there, for draw.py."""

import json
import math
import pathlib
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "deploy/metrics"), str(HERE.parents[1] / "deploy/grafana")]

import cluster as deployed
import dashboards
import generate
import panels
import table

# Conditions of the table that this cluster does not meet; tests/gateway and tests/worker look at these metrics.
NOT_HERE = {"with --keys", "with --tls-cert", "with --otlp-endpoint"}
WINDOW_SECONDS = 12  # of a rate
LOAD_SECONDS = 30
PATIENCE_SECONDS = 240
SAMPLE = re.compile(r"^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_]+)="(?:[^"\\]|\\.)*"')


def page_of(text: str) -> dict[str, dict]:
    """Family -> type, help and the label sets of its samples."""
    families: dict[str, dict] = {}
    for line in text.splitlines():
        if match := re.match(r"# (HELP|TYPE) (\S+) (.*)", line):
            families.setdefault(match.group(2), {"labels": set()})[match.group(1).lower()] = match.group(3)
        elif match := SAMPLE.match(line):
            name = match.group(1)
            base = next((b for b in (name, re.sub(r"_(bucket|sum|count)$", "", name)) if b in families), name)
            families.setdefault(base, {"labels": set()})["labels"].add(tuple(sorted(set(LABEL.findall(match.group(2) or "")) - {"le"})))
    return families


def check_pages(cluster) -> list[str]:
    problems, seen = [], set()
    expected = {(m.of, m.name): m for m in table.load()}
    for job, targets in cluster.targets.items():
        of = job.removeprefix("coterie-")
        for target in targets:
            try:
                page = page_of(deployed.get(f"http://{target}/metrics"))
            except OSError:
                continue  # the worker that was killed
            for name, family in page.items():
                metric = expected.get((of, name))
                if metric is None:
                    problems.append(f"{of} shows {name}, which is not in the table")
                    continue
                seen.add((of, name))
                problems += [f"{of}: {name}: {what} is {is_!r}, in the table {should!r}" for what, is_, should in (
                    ("type", family.get("type"), metric.type), ("help", family.get("help"), metric.help),
                    ("labels", family["labels"], {metric.labels})) if is_ != should]
    missing = sorted(key for key, metric in expected.items() if key not in seen and metric.when not in NOT_HERE)
    return problems + [f"{of} never showed {name}" for of, name in missing]


def ask_panels(prometheus, end: float) -> tuple[list[str], dict]:
    problems, answers = [], {}
    for dashboard in dashboards.ALL:
        for panel in dashboard.panels():
            for expression, legend in panel.queries:
                query = panels.with_job(expression).replace("$job", ".*").replace("$__rate_interval", f"{WINDOW_SECONDS}s")
                found = prometheus.api("query_range", query=query, start=end - LOAD_SECONDS, end=end, step=1)["result"]
                numbers = [float(value) for series in found for _, value in series["values"]]
                where = f"{dashboard.title}, {panel.title}: {query}"
                if not any(math.isfinite(n) for n in numbers):
                    problems.append(f"no finite data: {where}")
                if any(math.isinf(n) for n in numbers):
                    problems.append(f"infinite: {where}")
                answers.setdefault(dashboard.uid, {}).setdefault(panel.title, []).append([legend, found])
    return problems, answers


def look(cluster, prometheus) -> tuple[list[str], dict]:
    end = float(prometheus.api("query", query="time()")["result"][1])
    problems, answers = ask_panels(prometheus, end)
    for rule in prometheus.api("rules")["groups"][0]["rules"]:
        if rule["health"] != "ok" or rule["state"] == "firing":
            problems.append(f"alert {rule['name']}: health {rule['health']}, {rule['state']}, {rule.get('lastError', '')}")
    return problems + check_pages(cluster), answers


def main():
    bin_folder, program = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
    with deployed.Cluster(bin_folder) as cluster:
        prometheus = deployed.Prometheus(program, cluster.folder, cluster.targets, generate.CHART_FILES / "alerts.yaml")
        cluster.callback(prometheus.stop)
        cluster.fill_the_shadow()
        begin = time.monotonic()
        finished = False
        threads = cluster.load(lambda: finished)
        try:
            time.sleep(LOAD_SECONDS * 0.6)
            cluster.workers[2].child.kill()
            time.sleep(max(0.0, begin + LOAD_SECONDS - time.monotonic()))
            # On a machine that is starved something may not have happened yet; the load goes on meanwhile.
            while True:
                problems, answers = look(cluster, prometheus)
                if not problems or time.monotonic() > begin + PATIENCE_SECONDS:
                    break
                time.sleep(5)
        finally:
            finished = True
            for thread in threads:
                thread.join()
    n = sum(len(p.queries) for d in dashboards.ALL for p in d.panels())
    if len(sys.argv) > 3:
        pathlib.Path(sys.argv[3]).write_text(json.dumps(answers))
    if problems:
        sys.exit("\n".join(problems))
    print(f"{n} queries of {sum(len(d.panels()) for d in dashboards.ALL)} panels have finite data; {len(table.load())} metrics are as the table says")


if __name__ == "__main__":
    main()
