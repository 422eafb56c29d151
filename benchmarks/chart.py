"""Chart: a picture of ratios to Postfix, from the rows of the comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

WIDTH, LEFT, RIGHT = 900, 330, 130
TOP, BAR, GAP, PEERS, CASES = 96, 15, 2, 8, 18
"""Pixels: above the first bar, of a bar, and between the two of a peer, peers and cases."""

_STYLE = """
  svg { --ground: #ffffff; --ink: #1f2328; --faint: #59636e; --grid: #d9dee3; --first: #9ec5f4; --second: #1f6feb;
        --line: #b35900; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #0d1117; --ink: #e6edf3; --faint: #9198a1; --grid: #30363d; --first: #2f5f9e; --second: #6cb0ff;
          --line: #f0a050; }
  }
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
  .title { font-size: 17px; font-weight: 600; }
  .faint { fill: var(--faint); font-size: 12px; }
  .figure { font-size: 12px; paint-order: stroke; stroke: var(--ground); stroke-width: 4px; }
  .ground { fill: var(--ground); }
  .first { fill: var(--first); }
  .second { fill: var(--second); }
  .grid { stroke: var(--grid); }
  .postfix { stroke: var(--line); stroke-width: 2; }
  .one { fill: var(--line); font-weight: 600; font-size: 12px; }
"""


@dataclass(frozen=True)
class Bars:
    """One peer in one case: mails a second that were accepted and drained, and how many times Postfix's these are."""

    case: str
    peer: str
    accepted: tuple[float, float]
    drained: tuple[float, float]


def bars(rows: Sequence[Sequence[str]]) -> list[Bars]:
    """Of each row that is not Postfix's, by the columns of the comparison's head."""
    return [
        Bars(case, peer, (float(each[0]), float(each[1])), (float(each[2]), float(each[3])))
        for case, peer, *each in rows
        if peer != "Postfix"
    ]


def drawn(rows: Sequence[Bars]) -> str:
    """The picture, as SVG. Its bars begin at zero; a line stands where Postfix is."""
    most = max((ratio for row in rows for _, ratio in (row.accepted, row.drained)), default=1.0)
    end = max(math.ceil(most), 2)
    scale = (WIDTH - LEFT - RIGHT) / end
    body, bottom = _body(rows, scale)
    height = bottom + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"',
            ' role="img" aria-labelledby="title description">',
            '<title id="title">mailrelay beside Postfix</title>',
            f'<desc id="description">{escape("; ".join(map(_said, rows)))}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
            '<text class="title" x="20" y="30">Mails a second, as multiples of Postfix</text>',
            *_legend(("first", "accepted"), ("second", "drained to the provider")),
            *_grid(end, scale, bottom),
            *body,
            f'<line class="postfix" x1="{LEFT + scale:.1f}" x2="{LEFT + scale:.1f}" y1="{TOP - 12}" y2="{bottom}"/>',
            f'<text class="one" x="{LEFT + scale:.1f}" y="{TOP - 18}" text-anchor="middle">Postfix</text>',
            "</svg>\n",
        ]
    )


def _said(row: Bars) -> str:
    return f"{row.case}, {row.peer}: accepted {row.accepted[1]:.2f}, drained {row.drained[1]:.2f}"


def _legend(*kinds: tuple[str, str]) -> Iterator[str]:
    place = 20
    for kind, says in kinds:
        yield f'<rect class="{kind}" x="{place}" y="44" width="12" height="12"/>'
        yield f'<text class="faint" x="{place + 18}" y="54">{says}</text>'
        place += 92


def _grid(end: int, scale: float, bottom: int) -> Iterator[str]:
    step = max(1, math.ceil(end / 12))
    for each in range(0, end + 1, step):
        place = f"{LEFT + each * scale:.1f}"
        yield f'<line class="grid" x1="{place}" x2="{place}" y1="{TOP - 12}" y2="{bottom}"/>'
        yield f'<text class="faint" x="{place}" y="{bottom + 18}" text-anchor="middle">{each}</text>'


def _body(rows: Sequence[Bars], scale: float) -> tuple[list[str], int]:
    """What stands for the rows, and where it ends."""
    body: list[str] = []
    place = TOP
    for case, peers in groupby(rows, lambda row: row.case):
        body.append(f'<text x="20" y="{place + 12}">{escape(case)}</text>')
        for row in peers:
            if row.peer != "mailrelay":
                name = escape(row.peer.removeprefix("mailrelay, "))
                body.append(f'<text class="faint" x="{LEFT - 10}" y="{place + 29}" text-anchor="end">{name}</text>')
            for kind, (rate, ratio) in (("first", row.accepted), ("second", row.drained)):
                width = ratio * scale
                body.append(
                    f'<rect class="{kind}" x="{LEFT}" y="{place}" width="{width:.1f}" height="{BAR}"/>'
                    f'<text class="figure" x="{max(LEFT + width, LEFT + scale) + 6:.1f}" y="{place + 12}">'
                    f"{ratio:.2f} × ({rate:,.{0 if rate >= 20 else 1}f}/s)</text>"
                )
                place += BAR + GAP
            place += PEERS
        place += CASES - PEERS
    return body, place - GAP
