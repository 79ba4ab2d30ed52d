"""The evaluation as one HTML page: a table, three plots, nothing to fetch."""

from __future__ import annotations

import base64
import html
import io

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{max-width:100%}.note{color:#666}"""


def _image(figure) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, bbox_inches="tight")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}">'


def _axes(width: float, height: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _policies_plot(policies: dict) -> str:
    figure, axes = _axes(8, 0.35 * len(policies) + 1)
    names = sorted(policies, key=lambda name: -policies[name]["loss"])
    axes.barh(names, [policies[n]["loss"] for n in names], color=["#888" if n == "base" else "#37a" for n in names])
    lowest = min(p["loss"] for p in policies.values())
    axes.set_xlim(left=lowest * 0.9)
    axes.set_xlabel("held-out loss, nats per token (the axis does not begin at 0)")
    return _image(figure)


def _domains_plot(policies: dict, shown: list[str]) -> str:
    domains = sorted(policies["base"]["by_domain"])
    figure, axes = _axes(9, 4)
    width = 0.8 / len(shown)
    for i, name in enumerate(shown):
        axes.bar([d + i * width for d in range(len(domains))], [policies[name]["by_domain"][d] for d in domains], width, label=name)
    axes.set_xticks([d + 0.4 - width / 2 for d in range(len(domains))], domains, rotation=30, ha="right")
    axes.set_ylabel("nats per token")
    axes.legend()
    return _image(figure)


def _matrix_plot(matrix: dict[str, dict[str, float]]) -> str:
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
    return _image(figure)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def page(result: dict) -> str:
    policies, told = result["policies"], html.escape
    rows = "".join(
        f"<tr><td>{told(name)}</td><td>{p['loss']:.3f}</td><td>{p['perplexity']:.2f}</td><td>{p['perplexity_below_base']:.1%}</td>"
        f"<td>{p['regret']:.3f}</td><td>{_number(p['kept'], '.1%')}</td><td>{_number(p.get('to_base'), '.0%')}</td></tr>" for name, p in policies.items())
    shown = [name for name in ("base", "everything", "routed by the product", "oracle") if name in policies]
    outside = "".join(f"<tr><td>{told(name)}</td><td>{p['loss']:.3f}</td><td>{p['above_base']:+.1%}</td><td>{_number(p.get('to_base'), '.0%')}</td></tr>"
                      for name, p in result["outside"].items())
    first = result["first_token"]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Do the experts help?</title><style>{_STYLE}</style>
<h1>Do the experts help?</h1>
<p class="note">{told(result['made'])} · {told(result['machine'])} · {result['samples']} held-out passages, {result['tokens']} tokens · scored by the
product, {told(result['numerics'])} · base {told(result['base'])}, {result['experts']} experts</p>
<table><tr><th>policy</th><th>loss</th><th>perplexity</th><th>below base</th><th>regret</th><th>of the oracle's gain</th><th>to the base</th></tr>{rows}</table>
<p class="note">Loss and regret in nats per token. The oracle takes for each passage the expert of least loss; regret is what it would save.</p>
{_policies_plot(policies)}<h2>By domain</h2>{_domains_plot(policies, shown)}<h2>Expert by domain</h2>{_matrix_plot(result['matrix'])}
{f'<h2>Text of no field</h2><table><tr><th>policy</th><th>loss</th><th>above base</th><th>to the base</th></tr>{outside}</table>' if outside else ''}
<h2>What routing costs</h2><p>{first['routing_share']:.1%} of {first['first_token_seconds'] * 1e3:.0f} ms to the first token, at {first['prompt_tokens']:.0f} prompt tokens
(medians of {first['prompts']}).</p></html>
"""
