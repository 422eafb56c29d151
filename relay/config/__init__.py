"""The configuration: TOML, the older JSON form or flags become frozen values; all that is wrong is said in one go."""

from relay.config.flags import Flags
from relay.config.load import find_config, from_flags, load
from relay.config.problem import ConfigErrors, Problem
from relay.config.values import Config

__all__ = ["Config", "ConfigErrors", "Flags", "Problem", "find_config", "from_flags", "load"]
