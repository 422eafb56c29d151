"""`python -m tests.fuzz SECONDS`: each target for so long, led by what of the code its octets reach.

atheris is a package of its own. What a target finds is written to a file, whose name libFuzzer says.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

from tests.dialog import DIALOGS

TARGETS = ("grammar", "data")


def seeds(folder: Path) -> None:
    """What clients say in the dialogues, to begin with."""
    for number, octets in enumerate({turn.sends for dialog in DIALOGS for turn in dialog.turns}):
        if len(octets) < 600:
            (folder / str(number)).write_bytes(octets)


def fuzz(target: str, seconds: str) -> None:
    """One target; ends the process."""
    with atheris.instrument_imports(include=["relay"]):
        if target == "grammar":
            from tests.fuzz.grammar import check
        else:
            from tests.fuzz.data import check
    with tempfile.TemporaryDirectory() as folder:
        seeds(Path(folder))
        limits = [f"-max_total_time={seconds}", "-max_len=600", "-timeout=10", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *limits, "-artifact_prefix=fuzz-", folder], check)
        atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        fuzz(sys.argv[2], sys.argv[1])
    for each in TARGETS:
        subprocess.run([sys.executable, "-m", "tests.fuzz", *(sys.argv[1:] or ["300"]), each], check=True)
