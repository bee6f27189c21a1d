"""The errors that reach people. Each message is one line: what is wrong, and how to mend it."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the command line prints the message alone and exits with code 2."""


class PluginError(Exception):
    """A plugin broke its contract: it costs the plugin its unit, never the tournament."""


class AccessDenied(PluginError):
    """An attack asked its target for more than it declared in `access`."""


class BudgetExhausted(PluginError):
    """An attack has no queries left; what the target saw until then still counts."""
