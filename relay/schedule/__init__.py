"""Schedule: which mail is in memory with something to do, and when the rest comes in."""

from relay.schedule.item import LOST, Item, Shown, ready_again
from relay.schedule.schedule import SWEEP, Schedule
from relay.schedule.shared import SharedSchedule

__all__ = ["LOST", "SWEEP", "Item", "Schedule", "SharedSchedule", "Shown", "ready_again"]
