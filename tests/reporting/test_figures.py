"""The figures show what the store has, all of it and nothing else; what it does not have they say."""

import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from stores import attack, defense, image, open_match, record, store_bounds
from typed import Batch, present

from arena.cli import cli
from arena.data import data_hash
from arena.errors import UserError
from arena.interface.results import Distal, Record, Status
from arena.reporting.curves import accuracy_curve, chart_width, median_progress
from arena.reporting.figures import FigureData, figures_of, write_figures
from arena.reporting.figures.curves import figure2, figure_queries
from arena.reporting.figures.data import QUERIES
from arena.reporting.figures.distributions import figure8
from arena.reporting.figures.galleries import figure3, figure4, figure_quantiles
from arena.reporting.figures.mosaic import Mosaic
from arena.reporting.figures.style import COLORS, MARKERS, RC, look, save
from arena.store import distals as distal_rows
from arena.store.store import Store, open_store

PLAYED: dict[str, Any] = {"data_hash": data_hash("mnist", "test")}
L2 = {"cnn": [0.0, 0.5, 1.0, 1.5, 2.0, math.inf], "abs": [2.0, 2.5, 3.0, 0.5, 4.0, 4.5]}


def records(distances: list[float]) -> list[Record]:
    statuses = {0.0: "misclassified", math.inf: "not_found"}
    return [
        record(sample, statuses.get(distance, "found"), distance=distance) for sample, distance in enumerate(distances)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """L2 results of two defenses, Linf of one, no L0; bounds of abs in L2; ascents on cnn, one in vain."""
    path = tmp_path_factory.mktemp("figures") / "a.db"
    with closing(open_store(str(path))) as store:
        for name, distances in L2.items():
            store.append(open_match(store, defense(name), **PLAYED), records(distances))
        weaker = open_match(store, defense("cnn"), attack("fgm"), **PLAYED)
        progress = [[2, 5.0], [10, 4.0]]
        store.append(
            weaker, [record(1, distance=4.0, progress=progress), record(2, distance=0.75, progress=[[4, 0.75]])]
        )
        store.append(open_match(store, defense("cnn"), attack("fgsm", "linf"), **PLAYED), records([0.1, 0.2]))
        store_bounds(store, {0: 1.8, 1: 2.2, 2: 2.9}, of=defense("abs"), data_hash=PLAYED["data_hash"])
        cnn_id = store.register_defense(defense("cnn"))
        for label, status in enumerate((Status.FOUND, Status.NOT_FOUND)):
            ended = Distal(label, "exact", 0, status, 0.95 - 0.5 * label, 4, 6, 4, 0.1, image(label))
            distal_rows.append(store, cnn_id, ended)
        yield store


@pytest.fixture(scope="module")
def evidence(store: Store) -> Iterator[FigureData]:
    with store.reading() as connection:
        yield FigureData(connection)


def texts(figure: Figure) -> Iterator[str]:
    """Everything that is written in a figure."""
    for ax in figure.axes:
        yield from (text.get_text() for text in ax.texts)
        yield from (ax.get_xlabel(), ax.get_ylabel())
    yield from (text.get_text() for legend in figure.legends for text in legend.get_texts())


def lines(ax: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.get_lines()}


def pictures(figure: Figure) -> dict[tuple[int, int], np.ndarray]:
    """The images in a mosaic by their upper left corner."""
    found = {}
    for shown in figure.axes[0].get_images():
        left, _, _, top = shown.get_extent()
        found[int(left), int(top)] = np.asarray(shown.get_array(), np.float32)
    return found


def test_a_mosaic_shows_color_and_any_size_in_its_place() -> None:
    mosaic = Mosaic(100, 100)
    color = np.random.default_rng(0).random((3, 10, 20))
    mosaic.image(0, 8, color)
    mosaic.image(50, 8, color[:1, :, :5])
    wide, tall = mosaic.figure.axes[0].get_images()
    assert np.array_equal(present(wide.get_array()), color.transpose(1, 2, 0))
    assert np.array_equal(present(tall.get_array()), color[0, :, :5])
    assert tuple(wide.get_extent()) == (0, 32, 32, 16) and tuple(tall.get_extent()) == (58, 74, 40, 8)
    assert mosaic.figure.axes[0].get_xlim() == (0, 100)


distances = st.lists(st.one_of(st.just(0.0), st.just(math.inf), st.floats(0, 50)), min_size=1, max_size=30)


@given(distances, st.floats(0, 60))
def test_an_accuracy_curve_counts_the_samples_beyond_each_distance(found: list[float], at: float) -> None:
    epsilon, accuracy = accuracy_curve(found)
    assert epsilon[0] == 0 and (np.diff(epsilon) > 0).all() and (np.diff(accuracy) <= 0).all()
    for point in (at, *epsilon):
        step = np.searchsorted(epsilon, point, side="right") - 1
        assert accuracy[step] == pytest.approx(np.mean(np.array(found) > point))


def test_a_curve_without_samples_is_empty() -> None:
    assert [len(part) for part in accuracy_curve([])] == [0, 0]


@given(st.lists(distances, min_size=1, max_size=7))
def test_median_progress_is_the_median_of_what_each_sample_had(found: list[list[float]]) -> None:
    progress = [[[2 * k + 1, value] for k, value in enumerate(sorted(of, reverse=True))] for of in found]
    queries = np.arange(1, 70)
    had = [[min((value for query, value in of if query <= q), default=math.inf) for q in queries] for of in progress]
    expected = np.median(had, axis=0)
    assert np.array_equal(median_progress(progress, queries), expected)


@pytest.mark.parametrize(
    ("found", "width"), [([], 1.875), ([math.inf], 1.875), ([3.0] * 50, 3.0), ([99.0] * 50, 6.0), ([0.1], 1.875)]
)
def test_a_chart_is_as_wide_as_its_distances_within_reason(found: list[float], width: float) -> None:
    assert chart_width(np.array(found), 1.5) == pytest.approx(width)


def test_figure_2_draws_the_least_distances_and_the_bounds(evidence: FigureData) -> None:
    l2, linf, l0 = figure2(evidence).axes
    drawn = lines(l2)
    least = {"cnn": [0.0, 0.5, 0.75, 1.5, 2.0, math.inf], "abs": L2["abs"], "abs, lower bound": [1.8, 2.2, 2.9]}
    for name, found in least.items():
        epsilon, accuracy = accuracy_curve(found)
        x, y = np.asarray(drawn[name].get_xdata()), np.asarray(drawn[name].get_ydata())
        assert np.array_equal(x[:-1], epsilon) and np.array_equal(y[:-1], accuracy)
        assert x[-1] >= l2.get_xlim()[1] and drawn[name].get_drawstyle() == "steps-post"
    assert drawn.keys() - least.keys() == {"_threshold"}
    assert len(l2.collections) == 2 and not l0.collections  # a band around each curve of distances, none of bounds
    (of_abs,) = l2.collections[0].get_paths()
    vertices = np.asarray(of_abs.vertices)
    assert (vertices[:, 1].min(), vertices[:, 1].max()) == pytest.approx((0, 1))
    at_2 = vertices[np.isclose(vertices[:, 0], 2.0), 1]
    assert np.isclose(at_2[:, None], (0.2228, 0.9567), atol=1e-4).any(axis=0).all()  # of 4 of 6, Clopper and Pearson
    assert drawn["_threshold"].get_xdata() == [1.5, 1.5]
    assert [drawn[name].get_linestyle() for name in least] == ["-", "-", "--"]
    assert drawn["abs"].get_color() == drawn["abs, lower bound"].get_color() != drawn["cnn"].get_color()
    assert lines(linf).keys() == {"cnn", "_threshold"} and "no bounds stored: run `arena bounds`" in linf.get_xlabel()
    assert "bounds" not in l2.get_xlabel()
    assert not lines(l0) and any("no $L_0$ results stored" in text.get_text() for text in l0.texts)
    legend = {text.get_text() for text in l2.figure.legends[0].get_texts()}
    assert legend == set(least)


def test_distance_against_queries_is_the_median_of_the_progress(evidence: FigureData) -> None:
    l2, linf, l0 = figure_queries(evidence, "cnn").axes
    (line,) = l2.get_lines()
    assert line.get_label() == "fgm"
    queries = np.append(QUERIES[(QUERIES >= 4) & (QUERIES < 10)], 10)  # before 4 the median is infinite
    assert np.array_equal(line.get_xdata(), queries)
    assert np.allclose(line.get_ydata(), np.where(queries < 10, (5.0 + 0.75) / 2, (4.0 + 0.75) / 2))
    assert "no progress stored of boundary" in l2.get_xlabel()
    assert [ax.texts[0].get_text().split(":")[0] for ax in (linf, l0)] == ["no progress stored", "no results stored"]


def test_figure_8_counts_every_sample_once(evidence: FigureData) -> None:
    figure = figure8(evidence)
    l2 = figure.axes[0]
    assert [label.get_text() for label in l2.get_yticklabels()] == ["cnn", "abs"]
    said = [text.get_text() for text in l2.texts]
    assert said == ["6 samples, median 2.75", "6 samples, median 1.12, 17% misclassified, 17% not found"]
    assert "no results stored" in [text.get_text() for text in figure.axes[1].texts]


def test_figure_3_shows_the_closest_adversarial_of_a_sample_of_each_class(evidence: FigureData, mnist: Batch) -> None:
    figure = figure3(evidence, seed=3)
    shown = pictures(figure)
    clean = mnist[0].numpy()
    (x, y) = min(shown, key=lambda corner: corner[1])
    sample = next(one for one in range(6) if np.array_equal(shown[x, y], clean[one, 0]))
    stored = [shown[corner] for corner in sorted(shown, key=lambda corner: corner[1])][1:]
    gaps = {0: ["mis-\nclassified"], 5: ["none\nfound"]}.get(sample, [])
    assert len(stored) + len(gaps) == 2 and set(gaps) <= set(texts(figure))
    assert all(np.array_equal(one, image(sample)[0]) for one in stored)
    assert f"3, {L2['abs'][sample]:.3g}" in texts(figure)


def test_quantile_galleries_draw_from_every_quarter_without_bias(evidence: FigureData) -> None:
    """So few were found that all are shown."""
    figure = figure_quantiles(evidence, "l2", seed=0)
    said = list(texts(figure))
    for distance in L2["abs"]:
        assert f"3, {distance:.3g}" in said
    assert len(pictures(figure)) == 2 * (6 + 4)  # clean and adversarial; two samples of cnn have none
    assert any("no $L_0$ adversarial stored" in text for text in texts(figure_quantiles(evidence, "l0")))


def test_another_seed_draws_other_samples(tmp_path: Path) -> None:
    with closing(open_store(str(tmp_path / "a.db"))) as store:
        store.append(open_match(store, **PLAYED), records([1 + sample / 100 for sample in range(80)]))
        with store.reading() as connection:
            evidence = FigureData(connection)
            drawn = [
                [text for text in texts(figure_quantiles(evidence, "l2", seed)) if "3, " in text] for seed in (0, 1)
            ]
    assert len(drawn[0]) == len(drawn[1]) == 16 and drawn[0] != drawn[1]
    for seeds in drawn:
        found = [float(text.split(", ")[1]) for text in seeds]
        assert found == sorted(found)
        quarters = [int((distance - 0.995) * 100) // 20 for distance in found]
        assert quarters == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


def test_figure_4_shows_every_class_and_brackets_what_was_not_reached(evidence: FigureData) -> None:
    figure = figure4(evidence)
    said = list(texts(figure))
    assert "cnn\nexact: 1 of 2, median 4 steps" in said
    assert "0.95, 4" in said and "(0.45, 4)" in said
    assert any("no distal adversarials stored of abs: run `arena distal`" in text for text in said)
    shown = pictures(figure)
    assert [np.array_equal(shown[corner], image(label)[0]) for label, corner in enumerate(sorted(shown))] == [True] * 2


def test_other_data_than_was_played_is_not_shown_as_clean(tmp_path: Path) -> None:
    with closing(open_store(str(tmp_path / "a.db"))) as store:
        store.append(open_match(store), records([1.0]))  # of a data set with another hash
        with store.reading() as connection:
            evidence = FigureData(connection)
            figure = figure3(evidence)
            assert "not the one that was played" in evidence.clean
    assert "no data" in texts(figure) and len(pictures(figure)) == 1


def test_curves_are_told_apart_in_grey_by_their_markers() -> None:
    looks = [tuple(look(index).values()) for index in range(len(COLORS) * len(MARKERS))]
    assert len(set(looks)) == len(looks)
    assert len({look(index)["marker"] for index in range(len(MARKERS))}) == len(MARKERS)
    luminance = [np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722)) for color in COLORS]
    assert max(luminance) < 0.75  # visible on white


def test_the_command_writes_every_figure(store: Store, tmp_path: Path) -> None:
    names = ["figure2-accuracy", "figure3-gallery", "figure4-distal", "figure5-quantiles-l0", "figure6-quantiles-l2"]
    names += ["figure7-quantiles-linf", "figure8-distributions", "queries-abs", "queries-cnn"]
    out, db = tmp_path / "new" / "folder", str(store._engine.url.database)
    outcome = CliRunner().invoke(cli, ["figures", "--db", db, "--out", str(out), "--format", "svg"])
    assert outcome.exit_code == 0, outcome.output
    assert sorted(file.name for file in out.iterdir()) == [f"{name}.svg" for name in names]
    assert all(b"<svg" in file.read_bytes() for file in out.iterdir())
    assert outcome.output.splitlines() == [f"wrote {out / name}.svg" for name in names]


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_store_gives_the_same_bytes(evidence: FigureData, tmp_path: Path, form: str) -> None:
    for name in ("a", "b"):
        with matplotlib.rc_context(RC):
            save(figure2(evidence), tmp_path / name, form)
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    assert content.startswith(b"\x89PNG" if form == "png" else b"<?xml")


def test_names_of_defenses_cannot_lead_out_of_the_folder(evidence: FigureData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "defenses", ["../x$_y"])
    assert "queries-.._x__y" in figures_of(evidence, seed=0)


def test_names_are_no_formulas(tmp_path: Path) -> None:
    name = "_$\\frac$\x1b"
    with closing(open_store(str(tmp_path / "a.db"))) as store:
        store.append(open_match(store, defense(name), attack(name), **PLAYED), records([1.0]))
        with store.reading() as connection:
            evidence = FigureData(connection)
            drawn = figure2(evidence), figure4(evidence), figure8(evidence), figure_queries(evidence, name)
    for figure in drawn:
        save(figure, tmp_path / "a.svg", "svg")  # matplotlib raises for a formula that is none
    assert r" _\$\frac\$\x1b" in texts(drawn[0])


def test_mistakes_cost_a_line(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: that is a file: name a folder"):
        write_figures(store, tmp_path / "file")
    with closing(open_store(str(tmp_path / "empty.db"))) as empty:
        with pytest.raises(UserError, match="nothing to draw.*run `arena run`"):
            write_figures(empty, tmp_path / "out")
        open_match(empty)
        with pytest.raises(UserError, match="nothing to draw.*run `arena run`"):
            write_figures(empty, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    with closing(open_store(str(tmp_path / "a.db"))) as store:
        store.append(open_match(store, **PLAYED), records([1.0]))
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("UPDATE result SET adversarial = x'00'")
        database.commit()
    with closing(open_store(str(tmp_path / "a.db"))) as store, pytest.raises(UserError, match="match 1, sample 0"):
        write_figures(store, tmp_path / "out", ["png"])


def test_help_does_not_load_matplotlib() -> None:
    code = "import sys, arena.cli; arena.cli.cli(['--help'], standalone_mode=False); print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.endswith("False\n")
