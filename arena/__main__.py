"""The command `arena`, and `python -m arena`."""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command line, which takes a while, then run it: a signal meanwhile waits until it is handled there."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    from arena.cli import main

    main()


if __name__ == "__main__":  # a spawned worker imports this module too
    main()
