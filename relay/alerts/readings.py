"""Readings: what figures mean for each alert, and in which words people are told. Pure.

The words say what is wrong, since when, how much, at which provider and as who put it, and what can be done.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator

from relay.alerts.decision import Reading
from relay.alerts.figures import Bounds, Figures, Standing
from relay.bounce.words import span
from relay.reply import nameless, printable

CERTIFICATE = 14 * 86400.0
"""A certificate that ends within so many seconds is an alert."""

INODES = 0.05
"""So is a smaller share of free inodes than this,"""

ROOM = 2
"""and less free space than so many times `min_free`."""

WELL_WITHIN = 0.8
"""An alert is over at or below this share of its bound; one about room above the bound divided by it."""

_LONGEST = 300
_QUOTED = re.compile(r"[2-5]\d\d ")
_LOOK = "`mailrelay status` shows the providers, `mailrelay queue list` what was said of each mail."


def readings(figures: Figures, bounds: Bounds) -> Iterator[Reading]:
    """Everything that figures tell."""
    yield _backlog(figures, bounds)
    yield _oldest(figures, bounds)
    yield _stalled(figures, bounds)
    yield _disk(figures, bounds)
    for provider in figures.providers:
        yield _down(provider, figures, bounds)
        yield _paused(provider, figures)
        yield _certificate(provider)


def urgent(figures: Figures, bounds: Bounds) -> Iterator[Reading]:
    """What is not to wait for the next check: providers that are paused, or refused our login."""
    for provider in figures.providers:
        if provider.paused:
            yield _paused(provider, figures)
        elif provider.login_refused and not provider.up:
            yield _down(provider, figures, bounds)


def held_readings(quarantine: int, uncertain: int) -> Iterator[Reading]:
    """What the numbers of held mails tell: of those that are damaged, and of those that may have arrived."""
    yield Reading(
        "quarantine",
        quarantine > 0,
        not quarantine,
        f"{_mails(quarantine, 'is', 'are')} held because of damage in the spool, neither delivered nor deleted. "
        "`mailrelay queue list --state held` says what is damaged, `mailrelay queue export ID` shows what is left. "
        "Look at the health of the disk as well."
        if quarantine
        else "No damaged mail is held any more.",
    )
    yield Reading(
        "uncertain_held",
        uncertain > 0,
        not uncertain,
        f"{_mails(uncertain, 'is', 'are')} held: sent whole, without a reply from the provider, so that nobody knows "
        "whether anything arrived. Ask a recipient; then `mailrelay queue release ID` sends a mail again, and "
        "`mailrelay queue delete ID` forgets it."
        if uncertain
        else "No mail is held any more for being uncertain.",
    )


def gone(name: str) -> Reading:
    """An alert about a provider of which there are no figures any more."""
    return Reading(name, beyond=False, within=True, message="This provider is not configured any more.")


def _above(name: str, value: float, bound: float, wrong: str, good: str) -> Reading:
    within = value <= WELL_WITHIN * bound
    return Reading(name, value > bound, within, good if within else wrong)


def _backlog(figures: Figures, bounds: Bounds) -> Reading:
    return _above(
        "backlog",
        figures.backlog,
        bounds.backlog,
        f"{_mails(figures.backlog, 'waits', 'wait')} to be delivered, where {bounds.backlog} are the limit; the oldest "
        f"has waited for {span(figures.oldest)}. {_troubles(figures)} {_LOOK}",
        f"{_mails(figures.backlog, 'waits', 'wait')} to be delivered.",
    )


def _oldest(figures: Figures, bounds: Bounds) -> Reading:
    return _above(
        "oldest",
        figures.oldest,
        bounds.oldest,
        f"The oldest mail has waited for {span(figures.oldest)}, where {span(bounds.oldest)} are the limit; "
        f"{_mails(figures.waiting, 'waits', 'wait')} in all. {_troubles(figures)} {_LOOK}",
        f"The oldest mail has waited for {span(figures.oldest)}." if figures.oldest else "No mail waits.",
    )


def _stalled(figures: Figures, bounds: Bounds) -> Reading:
    return _above(
        "stalled",
        figures.undelivered,
        bounds.oldest,
        f"Nothing was delivered for {span(figures.undelivered)}, though {_mails(figures.waiting, 'waits', 'wait')}. "
        f"{_troubles(figures)} {_LOOK}",
        "Mail is delivered again." if figures.waiting else "No mail waits any more.",
    )


def _disk(figures: Figures, bounds: Bounds) -> Reading:
    space = ROOM * bounds.min_free
    for_space = _pressure(space, figures.free_bytes)
    for_inodes = _pressure(INODES * figures.all_inodes, figures.free_inodes)
    pressure = max(for_space, for_inodes)
    if pressure < WELL_WITHIN:
        return Reading("disk", False, True, f"The spool's volume has {_size(figures.free_bytes)} free again.")
    if for_inodes > for_space:
        return Reading(
            "disk",
            pressure > 1,
            False,
            f"The spool's volume has {figures.free_inodes} of {figures.all_inodes} inodes free, where {INODES:.0%} are "
            "the limit; with none left, no large mail can be taken. Remove files that nobody needs.",
        )
    whole = f" The whole volume has {_size(figures.total_bytes)}." if figures.total_bytes * WELL_WITHIN <= space else ""
    return Reading(
        "disk",
        pressure > 1,
        False,
        f"The spool's volume has {_size(figures.free_bytes)} free, where {_size(space)} are the limit; below "
        f"{_size(bounds.min_free)} (spool.min_free) new mail is refused until there is more. Make room there.{whole}",
    )


def _pressure(needed: float, there: float) -> float:
    """Above 1 where less is there than is needed."""
    if not needed:
        return 0.0
    return needed / there if there else math.inf


def _down(provider: Standing, figures: Figures, bounds: Bounds) -> Reading:
    bound = bounds.check_interval
    refused = provider.login_refused and not provider.up
    beyond = not provider.up and not provider.paused and (provider.down_for > bound or refused)
    within = provider.down_for <= WELL_WITHIN * bound and not refused
    if within:
        what = "is paused now" if provider.paused else "takes mail again"
        return Reading(f"provider_down:{provider.name}", beyond, within, f"The provider {provider.name} {what}.")
    if refused:
        what, advice = (
            "refuses our login",
            "Look at its username and password; SIGHUP makes mailrelay read them anew and try at once.",
        )
    else:
        what, advice = (
            f"has been down for {span(provider.down_for)}",
            "`mailrelay check` shows how far a connection comes.",
        )
    message = f"The provider {provider.name} {what}{_said(provider.last_error)}. {_instead(provider, figures)} {advice}"
    return Reading(f"provider_down:{provider.name}", beyond, within, message)


def _paused(provider: Standing, figures: Figures) -> Reading:
    name = f"provider_paused:{provider.name}"
    if not provider.paused:
        return Reading(name, False, True, f"The provider {provider.name} is not paused any more.")
    return Reading(
        name,
        True,
        False,
        f"The provider {provider.name} is paused, since it refused one mail after another{_said(provider.last_error)}. "
        f"{_instead(provider, figures)} Look whether the account there is suspended or its quota used up; "
        f"`mailrelay queue retry --provider {provider.name}` tries again at once.",
    )


def _certificate(provider: Standing) -> Reading:
    name, left = f"certificate:{provider.name}", provider.certificate_left
    if left is None:
        return Reading(name, False, False, "")
    day = time.strftime("%Y-%m-%d", time.gmtime(provider.certificate_ends))
    if left > CERTIFICATE:
        return Reading(name, False, True, f"The certificate of the provider {provider.name} is good until {day}.")
    when = f"ends in {span(left)}, on {day}" if left > 0 else f"ended on {day}"
    return Reading(
        name,
        True,
        False,
        f"The certificate of the provider {provider.name} {when}; after that no mail goes there. "
        "Whoever runs that server has to renew it.",
    )


def _said(words: str) -> str:
    """Behind what is wrong: in whose words, with nobody's address in them."""
    error = nameless(printable(words)).rstrip(".")
    if len(error) > _LONGEST:
        error = f"{error[:_LONGEST]} [cut]"
    if not error:
        return ""
    return f'; it said "{error}"' if _QUOTED.match(error) else f": {error}"


def _instead(provider: Standing, figures: Figures) -> str:
    """Where mail goes meanwhile."""
    others = [other.name for other in figures.providers if other.up and other.name != provider.name]
    if others:
        return f"Mail goes to {' and '.join(others)} meanwhile."
    return f"No other provider takes mail; {_mails(figures.waiting, 'waits', 'wait')}."


def _troubles(figures: Figures) -> str:
    """Which providers are the reason, as far as they are, and what the newest mail was told."""
    troubles = [
        f"{provider.name} {'is paused' if provider.paused else f'has been down for {span(provider.down_for)}'}"
        f"{_said(provider.last_error)}"
        for provider in figures.providers
        if not provider.up
    ] or ["All providers are up"]
    name, words = figures.refusal
    if any(provider.up and provider.name == name for provider in figures.providers):
        troubles.append(f"The newest failure was at {name}{_said(words)}")
    return f"{'. '.join(troubles)}."


def _mails(number: int, one: str, more: str) -> str:
    return f"1 mail {one}" if number == 1 else f"{number} mails {more}"


def _size(octets: float) -> str:
    for unit in ("octets", "KiB", "MiB", "GiB"):
        if octets < 1024:
            return f"{octets:.0f} octets" if unit == "octets" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} TiB"
