"""The report as text: what it says, what it leaves out, and that no name in it can be markup."""

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from report_store import HOSTILE, PLAYED, play
from stores import attack, bound, defense, image, open_match, record, store_bounds
from typed import Batch

from arena.cli import cli
from arena.errors import UserError
from arena.interface.results import Distal, Status
from arena.reporting.html import gallery, write_report
from arena.reporting.html.charts import POINTS_PER_EPSILON, read_charts
from arena.store import distals as distal_rows
from arena.store import schema
from arena.store.store import Store, open_store


class Page(HTMLParser):
    """Every start tag with its attributes, the text outside scripts, and the content of each script by its id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self._words: list[str] = []
        self.feed(text)
        self.text = " ".join("".join(self._words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._words.append(" " if tag in ("td", "th") else "")
        if tag in ("script", "style"):
            self._script = dict(attributes).get("id") or tag
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] += data
        else:
            self._words.append(data)


def page_of(store: Store, tmp_path: Path) -> Page:
    write_report(store, tmp_path / "page.html")
    return Page((tmp_path / "page.html").read_text())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(str(tmp_path / "arena.db"))
    yield store
    store.close()


@pytest.fixture
def played(store: Store, mnist: Batch) -> Store:
    play(store, mnist)
    return store


def test_nothing_is_loaded_from_elsewhere(played: Store, tmp_path: Path) -> None:
    page = page_of(played, tmp_path)
    loading = ("src", "srcset", "href", "action", "data", "poster")
    addresses = [value for _, of in page.tags for name, value in of.items() if name in loading]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert not re.search(r"@import|url\(", page.scripts["style"])
    (policy,) = (of["content"] for tag, of in page.tags if tag == "meta" and "http-equiv" in of)
    assert policy.startswith("default-src 'none'")


def test_every_link_in_the_page_leads_somewhere(played: Store, tmp_path: Path) -> None:
    tags = page_of(played, tmp_path).tags
    identifiers = [of["id"] for _, of in tags if "id" in of]
    assert len(identifiers) == len(set(identifiers))
    assert {of["href"][1:] for tag, of in tags if tag == "a"} <= set(identifiers)


def test_a_name_can_be_no_markup(played: Store, tmp_path: Path) -> None:
    page = page_of(played, tmp_path)
    assert set(page.scripts) == {"style", "curves-data", "gallery-data", "script", "block-0"}
    assert page.text.count(HOSTILE) > 3
    assert json.loads(page.scripts["gallery-data"])["matches"][-1]["attack"] == HOSTILE
    charts = json.loads(page.scripts["curves-data"])
    assert charts[-1]["curves"][0]["defense"] == HOSTILE


def test_what_a_page_cannot_show_is_written_out(store: Store, tmp_path: Path) -> None:
    store.append(open_match(store, defense("net\x1b\x00\u202e")), [record(0)])
    assert r"net\x1b\x00\u202e" in page_of(store, tmp_path).text


def test_it_says_what_is_missing_and_what_failed(played: Store, tmp_path: Path) -> None:
    text = page_of(played, tmp_path).text
    assert "2 defenses and 4 attacks on 5 samples of mnist, test" in text
    assert "1 of 4 matches played, 1 failed, 2 unfinished: arena run goes on" in text
    assert "No lower bounds are stored" in text
    assert "ValueError: <b>no room</b>" in text
    assert "it leaves the box" in text
    assert "8 results: 4 found, 1 error, 1 misclassified, 1 not found, 1 rejected." in text


def test_the_leaderboard_is_the_stores(played: Store, tmp_path: Path) -> None:
    text = page_of(played, tmp_path).text
    # 0, 1, 2 (fragile), 3, inf: three beyond 1.5
    assert "cnn boundary (3) 5 80.0% 2 [0, \u221e] 60.0% [15, 95] 1" in text
    assert "L2 accuracy at 1.5" in text
    assert f"{HOSTILE} none found any 1 1 100.0% \N{INFINITY} [0, \N{INFINITY}] 100.0% [3, 100]" in text


def test_a_defense_that_may_mask_its_gradients_is_named_with_the_evidence(played: Store, tmp_path: Path) -> None:
    for name, access, distance in (("pointwise-l2", "decision", 0.5), ("ddn", "gradient", 1.0)):
        rows = [record(sample, distance=distance, gradient_queries=2) for sample in range(10)]
        played.append(open_match(played, defense("cnn"), replace(attack(name), access=access), **PLAYED), rows)
    text = page_of(played, tmp_path).text
    assert "cnn may mask its gradients, and look more robust than it is: attacks without gradients are closer" in text
    assert "on 10 of 10 samples (most often pointwise-l2, than ddn)." in text


def test_infinity_sorts_as_a_number_of_scripts(played: Store, tmp_path: Path) -> None:
    keys = {of["data-sort"] for tag, of in page_of(played, tmp_path).tags if tag == "td" and "data-sort" in of}
    assert "Infinity" in keys and "inf" not in keys


def test_versions_fingerprints_and_settings(played: Store, tmp_path: Path) -> None:
    text = page_of(played, tmp_path).text
    for said in ("cnn arena-robustness 0.1.0 weights=a cnn a", "chunk=10", "seed=0", "torch=", PLAYED["data_hash"]):
        assert said in text


def unpacked(page: Page, block: int = 0) -> tuple[list[dict[str, Any]], np.ndarray]:
    content = zlib.decompress(base64.b64decode(page.scripts[f"block-{block}"]))
    (length,) = struct.unpack_from("<I", content)
    samples = json.loads(content[4 : 4 + length])
    images = np.frombuffer(content[4 + length :], np.uint8).reshape(-1, 28, 28)
    return samples, images


def test_the_gallery_holds_every_adversarial(store: Store, mnist: Batch, tmp_path: Path) -> None:
    exact = play(store, mnist)
    page = page_of(store, tmp_path)
    samples, images = unpacked(page)
    assert [of["sample"] for of in samples] == [0, 1, 2, 3, 4]
    place = count()
    for of in samples:
        clean = images[next(place)]
        assert np.array_equal(clean, np.round(mnist[0][of["sample"], 0].numpy() * 255))
        for row in (row for row in of["rows"] if "scale" in row):
            difference = images[next(place)].view(np.int8) * (row["scale"] / gallery.LEVELS)
            if row["match"] == 0:
                shown = clean / 255 + difference
                assert np.abs(shown - exact[of["sample"]][0]).max() <= row["scale"] / gallery.LEVELS / 2 + 1 / 510
    assert next(place) == len(images) == 5 + 4
    assert [row["status"] for row in samples[0]["rows"]] == ["found", "found", "error"]
    assert samples[1]["rows"][0]["fragile"]


def test_of_too_many_adversarials_the_closest_are_shown(
    played: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "EVERY_ATTACK", 3)
    page = page_of(played, tmp_path)
    samples, images = unpacked(page)
    assert [row["distance"] for row in samples[0]["rows"]] == [1.0]
    assert len(images) == 5 + 3
    assert "those of every attack are too many for one page" in page.text


def test_of_images_that_would_take_too_many_bytes_the_first_samples_are_shown(
    played: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "BYTES", 5 * 28 * 28)  # the clean ones and the closest adversarials of two samples
    page = page_of(played, tmp_path)
    samples, images = unpacked(page)
    assert len(images) <= 5 and [of["sample"] for of in samples] == [0, 1]
    assert "the first 2 of 5 samples" in page.text


def test_samples_come_in_blocks(played: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "BLOCK", 2)
    page = page_of(played, tmp_path)
    assert json.loads(page.scripts["gallery-data"])["blocks"] == [[0, 1], [2, 3], [4, 4]]
    assert [[of["sample"] for of in unpacked(page, block)[0]] for block in range(3)] == [[0, 1], [2, 3], [4]]


def test_bounds_appear_beside_the_attacks(played: Store, tmp_path: Path) -> None:
    for values, name, seed in (({0: 0.9}, "joint", 0), ({0: 0.8}, "joint", 1), ({0: 0.3, 1: 1.7}, "separate", 0)):
        store_bounds(played, values, by=bound(name), seed=seed, **PLAYED)
    store_bounds(played, {2: 1.7}, by=bound("separate"), data_hash="other data")
    page = page_of(played, tmp_path)
    samples, _ = unpacked(page)
    assert [of["bounds"] for of in samples[:3]] == [
        [["cnn", "l2", 0.8, "joint, estimate"]],
        [["cnn", "l2", 1.7, "separate, estimate"]],
        [],
    ]
    l2, linf = json.loads(page.scripts["curves-data"])
    (curve,) = l2["curves"]
    assert curve["bounded"] == 2
    assert curve["bounds"][POINTS_PER_EPSILON] == 0.5  # at 1.5
    assert linf["curves"][0]["bounds"] is None
    assert "No lower bounds" not in page.text


def test_distal_images_are_shown_by_defense_and_class(played: Store, tmp_path: Path) -> None:
    assert "None are stored: arena distal makes them." in page_of(played, tmp_path).text
    for label, status in ((4, Status.FOUND), (5, Status.NOT_FOUND)):
        ended = Distal(label, "exact", 0, status, 0.1 * (5 + label % 5), 30, 30, 30, 1.0, image(label))
        distal_rows.append(played, 1, ended)
    page = page_of(played, tmp_path)
    assert "cnn exact 1 2 30" in page.text
    shown = [of for tag, of in page.tags if tag == "img"]
    assert [of["alt"] for of in shown] == ["class 4, confidence 0.90", "class 5, confidence 0.50"]
    assert [of.get("class") for of in shown] == [None, "short"]
    assert np.array_equal(png(shown[0]["src"]), np.round(image(4)[0] * 255))


def png(address: str) -> np.ndarray:
    """The pixels of a gray PNG whose lines are not filtered [28, 28]."""
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    start = content.index(b"IDAT")
    (length,) = struct.unpack_from(">I", content, start - 4)
    return np.frombuffer(zlib.decompress(content[start + 4 : start + 4 + length]), np.uint8).reshape(28, 29)[:, 1:]


def test_without_the_data_there_is_all_but_the_images(store: Store, tmp_path: Path) -> None:
    store.append(open_match(store), [record(0)])
    page = page_of(store, tmp_path)
    assert "No images: the data set mnist, test, of this installation is not the one that was played" in page.text
    assert "cnn boundary (1)" in page.text


def test_a_damaged_image_is_named(played: Store, tmp_path: Path) -> None:
    with played.writing() as connection:
        connection.execute(schema.result.update().where(schema.result.c.sample == 1).values(adversarial=b"?"))
    with pytest.raises(UserError, match="match 1, sample 1"):
        write_report(played, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@given(st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.5, 1.6, 4.0, np.inf]), min_size=1))
def test_a_chart_holds_the_shares_beyond_each_distance(distances: list[float]) -> None:
    (chart,) = read_charts({("cnn", "l2"): np.array(distances)}, {}, {"l2": 1.5})
    grid = np.arange(chart.points) * 1.5 / POINTS_PER_EPSILON
    expected = [np.mean(np.array(distances) > distance) for distance in grid]
    assert chart.curves[0].accuracies == pytest.approx(expected, abs=1e-4)
    assert chart.x(grid[-1]) == pytest.approx(1)
    assert all(0 <= chart.x(tick) < 1.0001 for tick in chart.ticks())


def test_a_norm_without_a_threshold_has_a_chart(played: Store, tmp_path: Path) -> None:
    with played.writing() as connection:
        connection.execute(schema.threshold.delete().where(schema.threshold.c.norm == "l2"))
    page = page_of(played, tmp_path)
    l2, linf = json.loads(page.scripts["curves-data"])
    assert (l2["threshold"], l2["epsilon"], linf["threshold"]) == (False, 1.5, True)  # half of 3
    assert "cnn boundary (3) 5 80.0% 2 [0, \u221e] 1" in page.text


def test_the_command(played: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(cli, ["report", "--db", "arena.db", "--out", "deep/page.html"], catch_exceptions=False)
    assert said.exit_code == 0
    assert said.output.startswith("wrote deep/page.html (")
    assert (tmp_path / "deep" / "page.html").stat().st_size < 5e6


@pytest.mark.parametrize("database", ["absent.db", "empty.db"])
def test_a_store_without_a_match_has_no_report(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("empty.db").close()
    failed = CliRunner().invoke(cli, ["report", "--db", database])
    assert isinstance(failed.exception, UserError)
    assert "no tournament has been played there yet: run `arena run`" in str(failed.exception)
    assert not (tmp_path / "report.html").exists()
