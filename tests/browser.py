"""Browser: Chromium without a window, driven over W3C's WebDriver, and what it asked for and complained of."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.daemon import PATIENCE, free_port
from tests.running import soon

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)


class Browser:
    """One window, as long as the `with` block lasts."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="browser")
        self._port = free_port()
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={self._port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that it ends with the browser that it has started
        )
        self._session = ""
        flags = [*FLAGS, f"--user-data-dir={self._folder.name}", f"--window-size={width},{height}"]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        try:
            soon(self._is_up, "chromedriver answers")
            made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._session = f"/session/{made['sessionId']}"

    def open(self, url: str) -> None:
        """Go there, until it is loaded."""
        self._ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """What `script`, the body of a function, returns in the page."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": arguments})

    def text(self, selector: str) -> str:
        """What stands in the first element that CSS `selector` finds."""
        found: str = self.run("return document.querySelector(arguments[0]).textContent", selector)
        return found

    def command(self, name: str, **parameters: object) -> Any:
        """A command of the DevTools protocol."""
        return self._ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def press(self, *keys: str) -> None:
        """Press and release each key, as WebDriver writes it."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", f"{self._session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def point(self, selector: str) -> None:
        """Move the pointer onto the middle of an element."""
        found = self._ask("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        move = {"type": "pointerMove", "duration": 0, "origin": found, "x": 0, "y": 0}
        pointer = {"type": "pointer", "id": "mouse", "actions": [move]}
        self._ask("POST", f"{self._session}/actions", {"actions": [pointer]})

    def complaints(self) -> list[str]:
        """What came on the console since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def asked(self) -> set[str]:
        """Every address that was asked for over a network since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        urls = {each["request"]["url"] for each in sent}
        return {url for url in urls if not url.startswith(("chrome:", "data:"))}  # those are its first, empty window's

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Write a PNG of what is shown, or of the whole page."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._ask("POST", f"{self._session}/se/log", {"type": kind})
        return entries

    def _is_up(self) -> bool:
        with suppress(OSError):
            return bool(self._ask("GET", "/status")["ready"])
        return False

    def _ask(self, method: str, path: str, said: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            body = None if said is None else json.dumps(said)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            value = json.load(connection.getresponse())["value"]
        finally:
            connection.close()
        assert not (isinstance(value, dict) and "error" in value), value["message"]
        return value

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, AssertionError):
            if self._session:
                self._ask("DELETE", self._session)
        with suppress(ProcessLookupError):
            os.killpg(self._driver.pid, signal.SIGKILL)
        self._driver.wait(PATIENCE)
        with suppress(OSError):
            self._folder.cleanup()
