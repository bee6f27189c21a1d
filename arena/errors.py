"""The errors that reach people. Each message is one line: what is wrong, and how to mend it."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the command line prints the message alone and exits with code 2."""


class NotApplicable(UserError):
    """A plugin is not for the data that is played: of all installed ones it is left out, named it is an error."""


class StoreLost(UserError):
    """The database was taken away while it was written to: what was played since is lost, and the exit code is 1."""


class PluginError(Exception):
    """A plugin broke its contract: it costs the plugin its unit, never the tournament."""


class AccessDenied(PluginError):
    """An attack asked its target for more than it declared in `access`."""


class BudgetExhausted(PluginError):
    """None of the samples that a query asks about has queries left; what the target saw until then still counts.

    An attack may let it through, or catch it and go on with its other samples.
    """


def printable(text: str, limit: int) -> str:
    r"""`text` from a plugin, fit for a terminal and a database: at most `limit` characters, the middle cut out.

    All but printable characters, newlines and tabs become escapes: NUL is \x00, a lone surrogate \udc80.
    """
    text = _cut(text, limit)  # before the escapes too: it can be huge
    return _cut(visible(text, allowed="\n\t"), limit)


def visible(text: str, allowed: str = "") -> str:
    """The text with what a terminal or a page would obey rather than show written as Python's escapes.

    allowed: characters that stay although they are not printable.
    """
    return "".join(one if one.isprintable() or one in allowed else ascii(one)[1:-1] for one in text)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    mark = f" [{len(text) - limit} characters cut] "
    kept = max(limit - len(mark), 0)
    return text[: kept - kept // 2] + mark + text[len(text) - kept // 2 :]
