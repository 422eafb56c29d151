"""What in the drop folder is a mail, and what happens to the rest."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from relay.drop.folder import PATIENCE, Folder, Leaf, Oddity
from relay.drop.form import LONGEST_HEAD, Malformed
from tests.leaving import CONTENT, leave, octets

NOW = 1_700_000_000.0


class Place:
    """A drop folder, and where things are set aside."""

    def __init__(self, root: Path) -> None:
        self.path = root / "drop"
        self.damaged = root / "spool" / "damaged"
        self.damaged.parent.mkdir()
        self.folder = Folder(self.path, self.damaged, lambda: NOW)

    def age(self, *files: Path, seconds: float = 10.0) -> None:
        """Written so long ago."""
        for file in files:
            os.utime(file, (NOW - seconds, NOW - seconds), follow_symlinks=False)

    def found(self) -> tuple[list[str], list[tuple[str, bool]]]:
        """Names of the mails, and of the others, with whether those were set aside."""
        leaves, oddities = self.folder.open(self.folder.names())
        for leaf in leaves:
            leaf.close()
        return [leaf.name for leaf in leaves], [(oddity.name, oddity.aside) for oddity in oddities]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty one."""
    return Place(tmp_path)


def whole(leaf: Leaf) -> bytes:
    """All of its content."""
    pieces = []
    try:
        while piece := leaf.read(7):
            pieces.append(piece)
    finally:
        leaf.close()
    return b"".join(pieces)


def test_who_may_do_what_there(place: Place) -> None:
    """Everybody writes, nobody lists or removes what is another's, files get the folder's group."""
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o3733


def test_a_folder_that_was_there(tmp_path: Path) -> None:
    """It gets the right mode, and what lies there stays."""
    (tmp_path / "drop").mkdir(mode=0o700)
    leave(tmp_path / "drop")

    place = Place(tmp_path)

    assert stat.S_IMODE(place.path.stat().st_mode) == 0o3733
    assert place.found() == (["1.mail"], [])


def test_a_folder_that_holds_the_spool(tmp_path: Path) -> None:
    """It is never opened to everybody."""
    (tmp_path / "spool").mkdir(mode=0o700)

    for path in (tmp_path / "spool", tmp_path):
        with pytest.raises(OSError, match="the spool is in it"):
            Folder(path, tmp_path / "spool" / "damaged", lambda: NOW)

    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_a_link_in_place_of_the_folder(tmp_path: Path) -> None:
    """It is not followed."""
    (tmp_path / "drop").symlink_to(tmp_path)

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        Place(tmp_path)


def test_a_mail(place: Place) -> None:
    """Its head, its content, its owner, and when it was written."""
    place.age(leave(place.path))

    [leaf], [] = place.folder.open(["1.mail"])

    assert (leaf.head.sender, leaf.head.recipients) == ("a@example.com", ("b@example.net",))
    assert (leaf.owner, leaf.at) == (os.getuid(), NOW - 10)
    assert whole(leaf) == CONTENT


def test_a_time_that_nobody_believes(place: Place) -> None:
    """Of the future, or of long ago: not known."""
    place.age(leave(place.path, "1.mail"), seconds=-100)
    place.age(leave(place.path, "2.mail"), seconds=10**9)

    leaves, [] = place.folder.open(place.folder.names())

    assert [(leaf.at, whole(leaf)) for leaf in leaves] == [(None, CONTENT)] * 2


def test_the_oldest_first(place: Place) -> None:
    """By name, which begins with the time."""
    for name in ("3.mail", "1.mail", "2.mail"):
        leave(place.path, name)

    assert place.found()[0] == ["1.mail", "2.mail", "3.mail"]


def hostile(place: Place) -> list[Path]:
    """One of each kind of what is not taken."""
    path = place.path
    (path / "link").symlink_to(leave(place.damaged.parent, "elsewhere"))
    os.mkfifo(path / "pipe")
    (path / "folder").mkdir()
    leave(path, "name")
    (path / "other-name").hardlink_to(path / "name")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path / "socket"))
    (path / "empty").touch()
    (path / "long").write_bytes(b"x" * (LONGEST_HEAD + 100_000))
    (path / "longer").write_bytes(octets() + b"x")
    (path / "shorter").write_bytes(octets()[:-1])
    (path / "strange\udcff").write_bytes(b"\n")
    leave(path, "unfinished.part")
    return sorted(path.iterdir())


def test_what_is_not_taken(place: Place) -> None:
    """It is told of once, and left alone for an hour; somebody may be writing it."""
    files = hostile(place)
    place.age(*files, seconds=PATIENCE - 1)

    mails, others = place.found()

    assert mails == []
    assert others == [(file.name, False) for file in files if file.name != "unfinished.part"]
    assert place.found() == ([], [])


def test_what_is_not_taken_for_an_hour(place: Place) -> None:
    """It is set aside, as it is, and the folder is empty then."""
    files = hostile(place)
    place.age(*files, seconds=PATIENCE + 1)

    mails, others = place.found()

    assert mails == []
    assert others == [(file.name, True) for file in files]
    assert list(place.path.iterdir()) == []
    assert len(list(place.damaged.iterdir())) == len(files)
    assert stat.S_IMODE(place.damaged.stat().st_mode) == 0o700


def test_content_that_is_not_right(place: Place) -> None:
    """It shows at the end."""
    leave(place.path, content=CONTENT, crc32=1)

    [leaf], [] = place.folder.open(["1.mail"])

    with pytest.raises(Malformed):
        whole(leaf)
    assert place.folder.doubt("1.mail", "why") == [Oddity("1.mail", "why", aside=True)]  # its file is of today


def test_removing(place: Place) -> None:
    """By name and inode: a new file of the same name stays, and what is gone is no error."""
    inode = leave(place.path, "1.mail").stat().st_ino
    leave(place.path, "2.mail")

    place.folder.remove([("1.mail", inode), ("2.mail", 1), ("3.mail", 1)])

    assert place.found()[0] == ["2.mail"]


def test_two_daemons(place: Place) -> None:
    """One empties the folder; the other one does when that has ended."""
    other = Folder(place.path, place.damaged, lambda: NOW)

    assert place.folder.mine()
    assert place.folder.mine()
    assert not other.mine()
    place.folder.close()
    assert other.mine()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_a_file_of_somebody_else(place: Place) -> None:
    """Whose it is, is known."""
    os.chown(leave(place.path), 12345, 12345)

    [leaf], [] = place.folder.open(["1.mail"])

    assert (leaf.owner, whole(leaf)) == (12345, CONTENT)
