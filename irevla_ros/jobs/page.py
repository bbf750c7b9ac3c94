"""The few pieces of HTML that a report is made of: one file, no script, nothing from the network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from irevla_ros.core.stats import PairedDifference, Rate

CSS = """
:root { --ink: #1d2329; --soft: #5b6670; --line: #dfe3e7; --wash: #f6f7f8; --accent: #0072b2; --warn: #8a4b00; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
.soft, figcaption, .note { color: var(--soft); font-size: .9rem; }
.missing { border-left: 4px solid #e69f00; background: #fff8ea; padding: .6rem 1rem; margin: 1.2rem 0; }
.missing ul { margin: .2rem 0; padding-left: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .9rem; display: block; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; min-width: min(100%, 44rem); font-size: .92rem; font-variant-numeric: tabular-nums; }
.table figcaption { color: var(--warn); font-size: .88rem; max-width: 44rem; }
.table .scroll { margin-top: .3rem; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--ink); white-space: nowrap; }
tbody th { font-weight: 600; min-width: 7rem; }
tr.paper th, tr.paper td { color: var(--soft); font-weight: 400; font-style: italic; }
td .ci { color: var(--soft); font-size: .88em; white-space: nowrap; display: block; }
figure { margin: 1rem 0; }
.scroll img.plot { width: 100%; min-width: 34rem; height: auto; display: block; }
.videos { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1.2rem; }
.videos figure { margin: 0; }
.videos img { max-width: 100%; height: auto; border: 1px solid var(--line); display: block; }
pre { background: var(--wash); padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.45; }
details { margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 40rem) { body { font-size: 15px; padding-top: 1rem; } th, td { padding-right: .7rem; } }
@media print { details > * { display: block; } h2 { break-after: avoid; } figure, .tile { break-inside: avoid; } }
"""


def page(title: str, body: str) -> str:
    """A whole document; ``body`` is HTML, ``title`` is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, paper_rows: int = 0) -> str:
    """A scrolling table; header and caption are text, cells are HTML. The last ``paper_rows`` rows are set apart."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = []
    for i, (first, *cells) in enumerate(rows):
        kind = ' class="paper"' if i >= len(rows) - paper_rows else ""
        body.append(f'<tr{kind}><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    # Not a <caption>: on a phone that would scroll away with the table.
    return (
        f'<figure class="table"><figcaption>{escape(caption)}</figcaption>\n<div class="scroll"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(body)}\n</tbody></table></div></figure>\n"
    )


def rate_cell(rate: Rate | None) -> str:
    """Mean, 95 % interval and n."""
    if rate is None or not rate.episodes:
        return '<span class="ci">not evaluated</span>'
    low, high = rate.interval
    return f'<b>{rate.mean:.2f}</b> <span class="ci">[{low:.2f}, {high:.2f}] n={rate.episodes}</span>'


def difference_cell(difference: PairedDifference) -> str:
    """Mean difference with sign, 95 % interval and number of pairs."""
    return (f'<b>{difference.mean:+.2f}</b> <span class="ci">[{difference.low:+.2f}, {difference.high:+.2f}] '
            f"n={difference.episodes}</span>")  # fmt: skip


def plot(svg: bytes, alt: str, caption: str = "") -> str:
    """A figure from SVG, in its own document so that the identifiers of several figures cannot meet."""
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (f'<figure><div class="scroll"><img class="plot" alt="{escape(alt)}" '
            f'src="{data_uri(svg, "image/svg+xml")}"></div>{text}</figure>\n')  # fmt: skip


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def duration(seconds: float | None) -> str:
    """Seconds in words, such as '45 s', '11.6 min' or '2.1 h'."""
    if seconds is None:
        return "not recorded"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
