"""Data of one's own through the whole tournament: thresholds and identity are the data set's, nothing is MNIST's."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from plugin_packages import arena

from arena.store.store import open_store

pytestmark = pytest.mark.xdist_group("datasets")  # what its fixtures play is played once

PLUGIN = '''
import torch
import arena

class Mean(arena.Defense):
    """Two classes: is the image bright?"""
    name, gradient = "mean", "autograd"

    def scores(self, x):
        bright = x.flatten(1).mean(1) - 0.5
        return torch.stack([-bright, bright], 1)

@arena.hookimpl
def register_defenses(register):
    register(Mean)
'''
METADATA = "Metadata-Version: 2.1\nName: mean-defense\nVersion: 1.0\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colour data set of 5 x 7 pixels, a defense of its two classes, and a settings file."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    y = np.arange(8) % 2
    x = (rng.random((8, 5, 7, 3)) * 40 + np.where(y, 140, 75)[:, None, None, None]).astype(np.uint8)
    np.savez(folder / "test.npz", x=x, y=y)
    (folder / "arena.toml").write_text(
        '[tournament]\ndataset = "mine"\nsamples = 6\ndefenses = ["mean"]\nattacks = ["fgsm", "deepfool-l2"]\n'
        '[dataset.mine]\nfile = "test.npz"\nlayout = "NHWC"\nepsilon = { linf = 0.5 }\n'
    )
    site = folder / "site"
    (site / "mean_defense-1.0.dist-info").mkdir(parents=True)
    (site / "mean_defense-1.0.dist-info" / "METADATA").write_text(METADATA)
    (site / "mean_defense-1.0.dist-info" / "entry_points.txt").write_text("[arena]\nmean = mean_defense\n")
    (site / "mean_defense.py").write_text(PLUGIN)
    return folder


def run(folder: Path, *arguments: object) -> str:
    answer = arena(*arguments, plugins=folder / "site", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def played(folder: Path) -> Path:
    run(folder, "run", "--quiet", "--workers", "1")
    return folder


def test_thresholds_are_those_of_the_data_set(played: Path) -> None:
    rows = {row["norm"]: row for row in json.loads(run(played, "leaderboard", "--format", "json", "--by", "defense"))}
    assert rows["linf"]["epsilon"] == 0.5 and rows["linf"]["accuracy"] == 0
    assert rows["l2"]["epsilon"] is None and rows["l2"]["accuracy"] is None
    assert {row["dataset"] for row in rows.values()} == {"mine"}
    with sqlite3.connect(played / "arena.db") as database:
        assert database.execute("SELECT shape, classes FROM dataset").fetchall() == [("[3, 5, 7]", 2)]
        assert dict(database.execute("SELECT norm, accuracy FROM leaderboard WHERE attack = 'all'")) == {
            "linf": 0,
            "l2": None,
        }


def test_the_distances_are_the_optimal_ones(played: Path) -> None:
    x = np.load(played / "test.npz")["x"][:6] / 255
    optimal = np.abs(x.reshape(6, -1).mean(1) - 0.5)
    rows = json.loads(run(played, "leaderboard", "--format", "json", "--norm", "linf", "--by", "defense"))
    assert rows[0]["median_distance"] == pytest.approx(float(np.median(optimal)), rel=0.01)


def test_nothing_of_the_paper_is_shown(played: Path) -> None:
    assert "paper" not in run(played, "leaderboard", "--format", "markdown")
    assert "no results of the defenses of Table 1" in run(played, "table1")


def test_what_was_played_is_verified_and_reported(played: Path) -> None:
    assert "0 failures" in run(played, "verify")
    run(played, "report", "--out", "page.html")
    assert "mine" in (played / "page.html").read_text(encoding="utf-8")


PIXELS = "const c = arguments[0]; return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"


def test_the_gallery_shows_its_colors(played: Path) -> None:
    run(played, "report", "--out", "page.html")
    waiting = pytest.importorskip("selenium.webdriver.support.wait")
    with chromium() as driver:
        driver.get((played / "page.html").as_uri())
        buttons = "#samples button canvas"
        waiting.WebDriverWait(driver, 60).until(lambda driver: driver.find_elements("css selector", buttons))
        shown = [driver.execute_script(PIXELS, one) for one in driver.find_elements("css selector", buttons)]
        perturbed = driver.find_element("css selector", "#sample-images .adversarials canvas")
        adversarial = np.array(driver.execute_script(PIXELS, perturbed)).reshape(5, 7, 4)[..., :3]
        assert driver.get_log("browser") == []
    x = np.load(played / "test.npz")["x"][:6]
    assert np.array_equal(np.array(shown).reshape(6, 5, 7, 4)[..., :3], x)
    with closing(open_store(str(played / "arena.db"))) as store:
        rows = store.results(adversarials=True)
    first = min((row for row in rows if row["sample"] == 0 and row["norm"] == "l2"), key=lambda row: row["distance"])
    stored = first["adversarial"].transpose(1, 2, 0) * 255
    assert np.abs(adversarial - stored).max() <= 255 * np.abs(stored / 255 - x[0] / 255).max() / 30 + 1


def test_data_that_changed_is_another_tournament(played: Path) -> None:
    archive = dict(np.load(played / "test.npz"))
    archive["x"][0] ^= 1
    np.savez(played / "test.npz", **archive)
    answer = arena("verify", plugins=played / "site", cwd=played)
    assert answer.returncode == 1 and "is not the one that was played" in answer.stdout
