"""The evaluation as one HTML page: a table, three plots, nothing to fetch."""

from __future__ import annotations

import html

from coterie_experts.evaluation import plots
from coterie_experts.evaluation.evaluating import COMPARED
from coterie_experts.evaluation.plots import as_image

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{max-width:100%}.note{color:#666}"""


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def page(result: dict) -> str:
    policies, told = result["policies"], html.escape
    rows = "".join(
        f"<tr><td>{told(name)}</td><td>{p['loss']:.3f}</td><td>{p['perplexity']:.2f}</td><td>{p['perplexity_below_base']:.1%}</td>"
        f"<td>{p['regret']:.3f}</td><td>{_number(p['kept'], '.1%')}</td><td>{_number(p.get('to_base'), '.0%')}</td></tr>" for name, p in policies.items())
    shown = [name for name in COMPARED if name in policies]
    outside = "".join(f"<tr><td>{told(name)}</td><td>{p['loss']:.3f}</td><td>{p['above_base']:+.1%}</td><td>{_number(p.get('to_base'), '.0%')}</td></tr>"
                      for name, p in result["outside"].items())
    first = result["first_token"]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Do the experts help?</title><style>{_STYLE}</style>
<h1>Do the experts help?</h1>
<p class="note">{told(result['made'])} · {told(result['machine'])} · {result['samples']} held-out passages, {result['tokens']} tokens · scored by the
product, {told(result['numerics'])} · base {told(result['base'])}, {result['experts']} experts</p>
<table><tr><th>policy</th><th>loss</th><th>perplexity</th><th>below base</th><th>regret</th><th>of the oracle's gain</th><th>to the base</th></tr>{rows}</table>
<p class="note">Loss and regret in nats per token. The oracle takes for each passage the expert of least loss; regret is what it would save.</p>
{as_image(plots.policies_figure(policies))}<h2>By domain</h2>{as_image(plots.domains_figure(policies, shown))}<h2>Expert by domain</h2>{as_image(plots.matrix_figure(result['matrix']))}
{f'<h2>Text of no field</h2><table><tr><th>policy</th><th>loss</th><th>above base</th><th>to the base</th></tr>{outside}</table>' if outside else ''}
<h2>What routing costs</h2><p>{first['routing_share']:.1%} of {first['first_token_seconds'] * 1e3:.0f} ms to the first token, at {first['prompt_tokens']:.0f} prompt tokens
(medians of {first['prompts']}).</p></html>
"""
