"""`python -m benchmarks`: each case with mailrelay and Postfix in turn (A B A B), as root, with Debian's postfix there.

    python -m benchmarks                  every case, three rounds
    python -m benchmarks --rounds 5 persistent distance
    python -m benchmarks --write single   the same, and its rows, the chart and the machine into docs/
    python -m benchmarks --draw           the chart alone, of the rows that stand there

Every recipient is counted at the provider; one that is missing is said.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterator

from benchmarks import backlog, cases, fairness, figures, machine, syncs
from benchmarks.chart import bars, drawn
from benchmarks.page import PATH, Page, rule
from benchmarks.peers import SETTINGS

PROGRAMS = ("postfix", "smtp-source", "strace")
NAMES = [*cases.CASES, "million", "fairness", "syncs"]


def measured(name: str, rounds: int, commit: str) -> tuple[str, Iterator[str]]:
    """The head of a case's table, and its rows."""
    match name:
        case "million":
            return backlog.HEAD, backlog.rows(rounds, commit)
        case "fairness":
            return fairness.HEAD, fairness.rows(commit)
        case "syncs":
            return syncs.HEAD, syncs.rows(commit)
    return figures.HEAD, cases.rows(cases.CASES[name], rounds, commit)


def draw(page: Page) -> None:
    """The picture of what stands in the page."""
    PATH.with_suffix(".svg").write_text(drawn(bars(page.rows(figures.HEAD))), "utf-8")


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(NAMES)}; all of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put rows, machine and chart into docs/performance.md too")
    parser.add_argument("--draw", action="store_true", help="run none, and draw what stands in the page")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(NAMES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    page, commit = Page(), machine.commit()
    if arguments.draw:
        return draw(page)
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid():
        parser.error(f"it runs as root, and needs {', '.join(missing or PROGRAMS)} (Debian's postfix and strace)")
    about = machine.described(SETTINGS, shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]), os.getloadavg())
    print(about, flush=True)
    if arguments.write:
        page.put("machine", about)
    last = ""
    for name in arguments.cases or NAMES:
        head, rows = measured(name, arguments.rounds, commit)
        if head != last:
            print(f"\n{head}\n{rule(head)}", flush=True)
            last = head
        for row in rows:
            print(row, flush=True)
            if arguments.write:
                page.enter(head, row)
                draw(page)
    return None


if __name__ == "__main__":
    main()
