"""Sending: mailrelay-sendmail as programs call it, as whichever user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.daemon import PATIENCE

SENDMAIL = Path(sys.executable).with_name("mailrelay-sendmail")
NOBODY = 65534

# The interpreter may lie where only root comes, so all that may be needed is loaded before the user changes.
_AS = """
import ctypes, encodings.idna, json, os, sys, threading
import relay.sendmail.dialogue, relay.sendmail.leave, relay.sendmail.main, relay.sendmail.queue
uid = int(sys.argv.pop(1))
sys.argv[0] = "mailrelay-sendmail"
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
relay.sendmail.main.main()
"""


def sendmail(
    folder: Path,
    arguments: Sequence[str | bytes],
    mail: bytes = b"",
    *,
    uid: int | None = None,
    under: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    config: str = "relay.toml",
) -> subprocess.CompletedProcess[bytes]:
    """What comes of it, with the configuration in `folder`.

    uid      another user, who has that group and no other, and may gain no privileges
    under    a command that it runs under
    environ  all of its environment but for the configuration's place
    """
    command = [SENDMAIL] if uid is None else [sys.executable, "-c", _AS, str(uid)]
    variables = {"PATH": os.environ["PATH"]} if environ is None else environ
    return subprocess.run(
        [*under, *command, *arguments],
        input=mail,
        env={**variables, "MAILRELAY_CONFIG": str(folder / config)},
        cwd="/",
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
