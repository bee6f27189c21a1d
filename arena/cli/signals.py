"""Ctrl-C and its kin end a command in order: what is open is closed, the cursor comes back, the exit code says why."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from types import CodeType, FrameType

SIGNALS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
LONGEST_IMPORT = 10  # seconds that a signal waits for an import


class Stop:
    """Turns signals into KeyboardInterrupt; `signal` is the number of the first, 0 before.

    While a module is imported the exception waits until that is done, or for another signal: some packages swallow it,
    or make another error of it, and leave half of themselves behind.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._entry: CodeType | None = None
        self._raised = False

    def install(self) -> None:
        """Handle signals from now on, unless the caller has this process ignore them (`nohup`). The function that calls
        it must catch what they raise."""
        self._entry = sys._getframe(1).f_code
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # `arena.__main__` has blocked them

    @property
    def exit_code(self) -> int:
        """As a shell counts: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    def ended(self) -> None:
        """The command is over: from now on a signal ends the process at once."""
        for number in SIGNALS:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, lambda number, _: os._exit(128 + number))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = not self.signal
        self.signal = self.signal or number
        if first and self._imports(frame):
            threading.Thread(target=self._wait, args=(number,), daemon=True).start()
            return
        self._raised = True
        raise KeyboardInterrupt

    def _imports(self, frame: FrameType | None) -> bool:
        """Whether the command that runs in this frame is importing a module."""
        while frame is not None and frame.f_code is not self._entry:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return True
            frame = frame.f_back
        return False

    def _wait(self, number: int) -> None:
        end = time.monotonic() + LONGEST_IMPORT
        main = threading.main_thread().ident or 0
        while time.monotonic() < end and self._imports(sys._current_frames().get(main)):
            time.sleep(0.01)
        if self._raised:
            return
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, number)  # a signal ends what the main thread waits for, too
        else:
            _thread.interrupt_main(signal.Signals(number))
