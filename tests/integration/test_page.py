"""The page in Chromium, of a daemon that works: what moves on it, what stands still, and who can use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser
from tests.daemon import free_port
from tests.npm import from_npm
from tests.running import Running, configure, letter, soon
from tests.sink import Sink

pytestmark = pytest.mark.needs("chromium", "chromedriver")

GREYLISTED = "451 4.7.1 <b>not</b> <script>document.title='owned'</script> for <b@example.net>, try later"
LEFT, END = "\ue012", "\ue010"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One window for all."""
    with Browser() as browser:
        yield browser


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A relay with two providers."""
    with Daemon(tmp_path) as daemon:
        yield daemon


class Daemon:
    """A relay whose ports stay what they are, its `primary` provider and its `backup`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._port = free_port()

    def __enter__(self) -> Daemon:
        self.primary, self.backup = (self._stack.enter_context(Sink(name)) for name in ("primary", "backup"))
        configure(
            self._folder,
            [self.primary.table(), self.backup.table()],
            {"http": {"listen": [f"tcp:{self._port}:interface=127.0.0.1"]}, "retry": {"schedule": ["1h"]}},
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Begin, or begin again."""
        self.relay = self._stack.enter_context(Running(self._folder))

    @property
    def url(self) -> str:
        """Where its page is."""
        return f"http://127.0.0.1:{self._port}/"

    def shown(self, browser: Browser) -> Browser:
        """The window with its page, once that has drawn something, and has complained of nothing so far."""
        browser.complaints()
        browser.open(self.url)
        some = "return [...document.querySelectorAll('figure li b')].some(each => each.textContent === '0')"
        soon(lambda: browser.run(some), "it has drawn something")
        return browser

    def defer(self, mails: int, reply: str = GREYLISTED) -> None:
        """Take so many mails, that nobody wants yet."""
        for provider in (self.primary, self.backup):
            provider.always("RCPT", reply)
        self.relay.submit(*[letter(f"deferred{number}") for number in range(mails)])
        soon(lambda: self.relay.health()["queue"]["deferred"] >= mails, "all of them are deferred")


def test_mail_that_comes_while_the_page_is_open(browser: Browser, daemon: Daemon) -> None:
    """Figures, plots and title follow by themselves; nothing is asked for elsewhere, and nothing complained of."""
    daemon.shown(browser)
    assert browser.text("#headline").endswith("No mail has come yet since the start.")
    assert browser.text("#oldest") == "none waits"
    daemon.relay.submit(*[letter(f"mail{number}") for number in range(5)])
    soon(lambda: browser.text("#emails") == "5", "they are counted")
    soon(lambda: browser.text("#plot-delay b") != "–", "their delay is drawn")
    daemon.defer(2)
    soon(lambda: browser.text("#plot-queue .deferred b") == "2", "the ones that wait are drawn")
    soon(lambda: browser.run("return document.title") == "ok · 2 waiting · mailrelay", "the title says so")

    assert browser.text("#headline") == "Mail is taken, and every provider is up."
    assert browser.complaints() == []
    paths = {"", "page.js", "page.css", "plots.js", "uplot.js", "uplot.css", "icon.svg", "status.json"}
    asked = browser.asked()
    assert {url.partition("?")[0] for url in asked} == {daemon.url + path for path in (*paths, "history.json")}
    assert len(asked) > len(paths) + 2


def test_words_of_a_provider(browser: Browser, daemon: Daemon) -> None:
    """What is markup in them is shown as it was said; addresses are not shown."""
    daemon.primary.stop()
    daemon.defer(1)
    daemon.shown(browser)

    assert "<b>not</b> <script>document.title='owned'</script> for <[address]>, try later" in browser.text("#failures")
    assert browser.run("return document.querySelectorAll('td *').length") == 0
    assert "owned" not in browser.run("return document.title")
    state = "#providers td[data-column=State]"
    soon(lambda: browser.text(state).startswith("down for"), "the provider that is away is down")
    assert "ago: no connection" in browser.text("#providers td[data-column='Last error']")
    assert browser.complaints() == []


def test_a_reader_of_the_failures(browser: Browser, daemon: Daemon) -> None:
    """What is pointed at stays as it is; a button says that there is more, and brings it."""
    daemon.defer(1)
    daemon.shown(browser)
    count = "return document.querySelectorAll('#failures tr').length"
    rows = browser.run(count)
    height = browser.run("return document.body.scrollHeight")
    browser.run("document.getElementById('failures').scrollIntoView()")
    browser.point("#failures td")
    daemon.defer(2, "450 4.2.1 something else")
    soon(lambda: not browser.run("return document.getElementById('newer').hidden"), "the button is there")
    assert browser.run(count) == rows
    assert browser.run("return document.body.scrollHeight") == height
    browser.run("document.getElementById('newer').click()")

    soon(lambda: browser.run(count) > rows, "the new ones are there")
    soon(lambda: browser.run("return document.getElementById('newer').hidden"), "the button is gone")


def test_a_daemon_that_stops_answering(browser: Browser, daemon: Daemon) -> None:
    """It is said clearly, and since when; when the daemon is back the page goes on with it, its past included."""
    daemon.shown(browser)
    known = "return document.getElementById('plot-rate').querySelector('.area').getAttribute('aria-valuemax')"
    soon(lambda: int(browser.run(known)) >= 2, "some seconds are drawn")
    daemon.relay.stop()
    soon(lambda: browser.text("#silence").startswith("mailrelay does not answer."), "it is said")
    assert browser.run("return document.title") == "no answer · mailrelay"
    before = int(browser.run(known))
    daemon.start()
    soon(lambda: browser.text("#silence") == "", "it is taken back")

    soon(lambda: int(browser.run(known)) > before, "the plots go on")


def test_the_keyboard(browser: Browser, daemon: Daemon) -> None:
    """Every moment of a plot can be reached and is spoken; so is how far back the plots go."""
    daemon.shown(browser)
    area = "document.querySelector('#plot-rate .area')"
    soon(lambda: int(browser.run(f"return {area}.getAttribute('aria-valuemax')")) >= 3, "some seconds are drawn")
    browser.run(f"{area}.focus()")
    browser.press(END, LEFT)
    newest, said = (browser.run(f"return {area}.getAttribute('aria-{name}')") for name in ("valuemax", "valuetext"))

    assert int(browser.run(f"return {area}.getAttribute('aria-valuenow')")) == int(newest) - 1
    assert said.endswith("UTC: accepted 0, delivered 0, failed 0")
    assert browser.text("#moment") == f"at {said.partition(':  ')[0][:12]}"
    browser.run("document.querySelector('input[value=\"600\"]').focus()")
    browser.press("\ue014")
    soon(lambda: browser.run("return document.querySelector('input:checked').value") == "3600", "an hour is chosen")


def test_a_phone(browser: Browser, daemon: Daemon) -> None:
    """Nothing is wider than it, and nothing is to be moved sideways."""
    daemon.primary.stop()
    daemon.defer(1)
    browser.command("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    try:
        daemon.shown(browser)
        soon(lambda: browser.run("return document.querySelector('canvas').clientWidth") <= 360, "the plots are narrow")

        assert browser.run("return document.documentElement.scrollWidth") == 360
    finally:
        browser.command("Emulation.clearDeviceMetricsOverride")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script that looks for what shuts people out."""
    folder = tmp_path_factory.mktemp("axe")
    from_npm(folder, "axe-core@4")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


@pytest.mark.needs("node", "npm")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(browser: Browser, daemon: Daemon, axe: str, scheme: str) -> None:
    """Nothing is found wrong while mail waits and a provider is down, nor once the daemon is gone."""
    daemon.primary.stop()
    daemon.defer(3)
    daemon.shown(browser)
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.run(axe)

    def found() -> list[Any]:
        faults: list[Any] = browser.run("return axe.run().then(all => all.violations)")
        return [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in faults]

    assert found() == []
    daemon.relay.stop()
    soon(lambda: browser.text("#silence"), "it is said that it is gone")
    assert found() == []
