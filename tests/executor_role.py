"""What workers do in the tests of executors: any function of this file, by name."""

import ctypes
import mmap
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from arena.errors import UserError
from arena.tournament.config import Config
from arena.tournament.executors import child
from arena.tournament.jobs import Job, NodeJob

STATE: dict[str, Any] = {"jobs": 0}


@dataclass(frozen=True)
class Call(Job):
    function: str
    args: tuple[Any, ...] = ()

    @property
    def label(self) -> str:
        return self.function


def warm() -> None:
    import arena.tournament.config  # noqa: F401


def initialize(config: Config, places: dict[str, str]) -> list[str]:
    STATE["places"] = places
    STATE["db"] = config.run.db
    if os.environ.get("ARENA_TEST_BROKEN"):
        raise UserError("this worker has no settings")
    return child.limit_memory(config.run.memory)


def perform(job: Job) -> Any:
    if isinstance(job, NodeJob):
        return {"torch": os.environ.get("ARENA_TEST_TORCH", "2.0")}
    assert isinstance(job, Call)
    STATE["jobs"] += 1
    return globals()[job.function](*job.args)


def echo(value: Any) -> Any:
    return value


def state() -> dict[str, Any]:
    return {**STATE, "pid": os.getpid(), "server": os.getppid(), "threads": len(os.listdir("/proc/self/task"))}


def environment() -> list[str | None]:
    return [os.environ.get("ARENA_DB"), os.environ["OMP_NUM_THREADS"]]


def found(module: str) -> str | None:
    return sys.modules[module].__file__ if module in sys.modules else __import__(module).__file__


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def span(seconds: float) -> list[float]:
    started = time.monotonic()
    time.sleep(seconds)
    return [started, time.monotonic()]


def meets(folder: str, number: int) -> int:
    """How many calls are at work at once: it waits until there are so many."""
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < number:
        time.sleep(0.01)
    return number


def hold_the_lock() -> None:
    re.match("(a+)+$", 64 * "a" + "b")


def exits(code: int) -> None:
    os._exit(code)


def kills_agent(times: int, file: str) -> int:
    """End the process that runs this executor, so many times in all; says how often it did."""
    done = len(Path(file).read_bytes()) if Path(file).exists() else 0
    if done < times:
        with open(file, "ab") as counted:
            counted.write(b"x")
        os.kill(parent_of(os.getppid()), signal.SIGKILL)
        time.sleep(60)
    return done


def freezes_agent_once(file: str) -> str:
    """Stop that process; the next time it only answers."""
    if not Path(file).exists():
        agent = parent_of(os.getppid())
        Path(file).write_text(str(agent))
        os.kill(agent, signal.SIGSTOP)
    return "answered"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def segfaults() -> None:
    ctypes.string_at(0)


def raises(text: str) -> NoReturn:
    raise RuntimeError(text)


def raises_usage(text: str) -> NoReturn:
    raise UserError(text)


class OwnError(BaseException):
    def __init__(self, one: int, two: int) -> None:  # cannot be unpickled
        super().__init__("of its own class")

    def __reduce__(self) -> NoReturn:
        raise TypeError("nor pickled")


def raises_own() -> NoReturn:
    raise OwnError(1, 2)


def leaves_thread() -> str:
    threading.Thread(target=time.sleep, args=(1000,), daemon=False).start()
    return "done"


def leaves_process(detached: bool = False, die: bool = False, hang: bool = False) -> int:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=detached)
    if die or hang:
        print(process.pid, flush=True)
    if die:
        os._exit(9)
    if hang:
        time.sleep(1000)
    return process.pid


def daemonizes() -> int:
    """The pid of a grandchild whose parent has ended, in a session of its own."""
    code = (
        "import subprocess\n"
        "process = subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=-3, stderr=-3)\n"
        "print(process.pid)"
    )
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def prints(megabytes: int) -> str:
    print("a first line")
    for _ in range(megabytes):
        print(2**20 * "x")
    os.write(1, b"\x1b[31m\xff raw\n")
    return "printed"


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("pwned", "w"))


def answers_with(what: str) -> str:
    """Write to the pipe of the answers oneself."""
    content = {
        "pickle": pickle.dumps(Malicious()),
        "time": b"\x93\x01\xa6answer\xd6\xff\x00\x00\x00\x00",
        "types": b"\x95\x01\xa7failure\x01\x02\x03",
        "other": b"\x93\x09\xa6answer\x01",
        "empty": b"",
    }
    sizes = {"long": 2**40}
    for fd in range(3, 100):
        try:
            kind = os.readlink(f"/proc/self/fd/{fd}")
            flags = int(Path(f"/proc/self/fdinfo/{fd}").read_text().partition("flags:")[2].split()[0], 8)
        except OSError:
            continue
        if kind.startswith("pipe:") and flags & 1:
            body = content.get(what, b"")
            os.write(fd, sizes.get(what, len(body)).to_bytes(8, "big") + body)
            return "written"
    raise AssertionError("no pipe")


def unplain() -> dict[str, object]:
    return {"tensor": object()}


def hoards(shared: bool) -> None:
    keep = []
    while True:
        keep.append(mmap.mmap(-1, 2**28, flags=mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE))
