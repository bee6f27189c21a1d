"""A tournament on real colour images, crops of two photographs: from a file to leaderboard, report and figures."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from plugin_packages import arena
from typed import present

from arena import cli
from arena.data.described import DescribedDataset
from arena.interface.dataset import DatasetSettings
from arena.models.train import train
from arena.reporting.html.gallery import LEVELS
from arena.store.store import open_store

pytestmark = pytest.mark.xdist_group("colour")  # what its fixtures play is played once

SHAPE = 12, 16, 3  # height, width, channels: as a photograph is read

SETTINGS = """
[tournament]
dataset = "photographs"
samples = 8
attacks = ["deepfool-l2", "deepfool-linf-exact", "fgsm", "fmn-l0", "fmn-l1"]
[dataset.photographs]
files = { train = "train.npz", test = "test.npz" }
layout = "NHWC"
class_names = ["temple", "flower"]
epsilon = { linf = 0.03, l2 = 0.5 }
[attack]
fmn-l0 = { steps = 20 }
fmn-l1 = { steps = 20 }
[defense.mine]
model = "mine.py:build"
weights = "substitute.safetensors"
"""


def crops(photographs: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Crops in turn of both, every sixth pixel, and which it was."""
    y = np.arange(count) % 2
    x = np.empty((count, *SHAPE), np.uint8)
    for image, label in zip(x, y, strict=True):
        top, left = (rng.integers(0, size - 6 * side) for size, side in zip((427, 640), SHAPE[:2], strict=True))
        image[:] = photographs[int(label)][top : top + 6 * SHAPE[0] : 6, left : left + 6 * SHAPE[1] : 6]
    return x, y


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    photographs = pytest.importorskip("sklearn.datasets").load_sample_images().images
    folder, rng = tmp_path_factory.mktemp("colour"), np.random.default_rng(0)
    for split, count in (("train", 200), ("test", 8)):
        x, y = crops(photographs, count, rng)
        np.savez(folder / f"{split}.npz", x=x, y=y)
    files = {split: str(folder / f"{split}.npz") for split in ("train", "test")}
    data = DescribedDataset("photographs", DatasetSettings(files=files, layout="NHWC"))
    train("substitute", dataset=data, epochs=25, out=folder, quiet=True)
    (folder / "mine.py").write_text(
        "from arena.models.substitute import GeneralNetwork\ndef build():\n    return GeneralNetwork(3, 2)\n"
    )
    (folder / "arena.toml").write_text(SETTINGS)
    answer = arena("run", "--quiet", "--workers", "1", plugins="", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return folder


def test_every_attack_comes_to_a_result_and_each_row_holds(played: Path) -> None:
    with closing(open_store(str(played / "arena.db"))) as store:
        rows = store.leaderboard()
    assert {(row.defense, row.attack) for row in rows if row.attack != "all"} == {
        *(("mine", attack) for attack in ("deepfool-l2", "fgsm", "fmn-l0", "fmn-l1")),
        ("nearest-neighbor", "deepfool-linf-exact"),
    }
    assert all(row.errors == 0 and row.samples == 8 for row in rows)
    assert max(present(row.clean_accuracy) for row in rows) >= 0.75
    checked = arena("verify", plugins="", cwd=played)
    assert checked.returncode == 0 and "0 failures" in checked.stdout, checked.stdout


def test_the_gallery_decodes_to_the_pixels(played: Path) -> None:
    cli.cli.main(
        ["report", "--db", str(played / "arena.db"), "--out", str(played / "page.html")], standalone_mode=False
    )
    page = (played / "page.html").read_text(encoding="utf-8")
    assert "temple" in page and "flower" in page
    (block,) = re.findall(r'id="block-\d+">([A-Za-z0-9+/=]+)</script>', page)
    content = zlib.decompress(base64.b64decode(block))
    (length,) = struct.unpack_from("<I", content)
    samples, images = (
        json.loads(content[4 : 4 + length]),
        iter(np.frombuffer(content, np.uint8, offset=4 + length).reshape(-1, 3, 12, 16)),
    )
    clean = np.load(played / "test.npz")["x"].transpose(0, 3, 1, 2)
    with closing(open_store(str(played / "arena.db"))) as store:
        stored = {(row["sample"], row["distance"]): row["adversarial"] for row in store.results(adversarials=True)}
    shown = 0
    for sample in samples:
        assert np.array_equal(next(images), clean[sample["sample"]])
        for row in sample["rows"]:
            if "scale" in row:
                difference = next(images).view(np.int8) * (row["scale"] / LEVELS)
                exact = stored[sample["sample"], row["distance"]] - clean[sample["sample"]] / 255
                assert np.abs(difference - exact).max() <= row["scale"] / LEVELS / 2 + 1e-6
                shown += 1
    assert shown >= 20 and next(images, None) is None


def test_the_figures_are_drawn(played: Path) -> None:
    """L1 has no threshold here, nor a panel in the paper."""
    figures = ["figures", "--db", str(played / "arena.db"), "--out", str(played / "figures"), "--format", "png"]
    cli.cli.main(figures, standalone_mode=False)
    assert len(list((played / "figures").iterdir())) == 9  # seven, and the queries of each defense
