"""Page: the parts of docs/performance.md that the benchmarks write, and what stands in its tables."""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


class Page:
    """A page in Markdown; every change is written at once.

    A table is known by its head, a row by its first two cells, and a part by the comments around it.
    """

    def __init__(self, path: Path = PATH) -> None:
        self._path = path

    def rows(self, head: str) -> list[list[str]]:
        """The cells of each row below that head, wherever it stands."""
        lines = self._lines()
        return [cells(lines[number]) for number in self._places(lines, head)]

    def enter(self, head: str, row: str) -> None:
        """Put a row into the place of its predecessor, or behind the last one that has its first cell, or of all."""
        lines = self._lines()
        places = self._places(lines, head)
        if not places:
            raise LookupError(f"{self._path} has no table with rows below {head}")
        for same in (2, 1, 0):
            alike = [place for place in places if cells(lines[place])[:same] == cells(row)[:same]]
            if alike:
                lines[alike[-1] if same == 2 else alike[-1] + 1 : alike[-1] + 1] = [row]
                break
        self._write(lines)

    def put(self, part: str, text: str) -> None:
        """Replace what stands between `<!-- part -->` and `<!-- end of part -->`."""
        lines = self._lines()
        begin, end = (lines.index(f"<!-- {name}{part} -->") for name in ("", "end of "))
        lines[begin + 1 : end] = ["", *text.splitlines(), ""]
        self._write(lines)

    def _lines(self) -> list[str]:
        return self._path.read_text("utf-8").splitlines()

    def _write(self, lines: list[str]) -> None:
        self._path.write_text("\n".join(lines) + "\n", "utf-8")

    @staticmethod
    def _places(lines: list[str], head: str) -> list[int]:
        places = []
        below = False
        for number, line in enumerate(lines):
            below = line == head or (below and line.startswith("|"))
            if below and line != head and not line.startswith("|---"):
                places.append(number)
        return places


def cells(row: str) -> list[str]:
    """What stands in a row."""
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def rule(head: str) -> str:
    """The line below a head."""
    return "|---" * len(cells(head)) + "|"
