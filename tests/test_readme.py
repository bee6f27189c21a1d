"""The README's examples, run as printed."""

import importlib.util
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stores import dataset, store_bounds
from typed import Batch

import arena
from arena.data import data_hash, load_split
from arena.store.store import open_store
from arena.testing import check_defense

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, mnist: Batch) -> Path:
    """A folder with an arena.db in which two attacks met two defenses, with bounds that say nothing."""
    folder = tmp_path_factory.mktemp("readme")
    x, y = (part[:4] for part in mnist)
    with closing(open_store(str(folder / "arena.db"))) as store:
        conditions = {"dataset": "mnist", "split": "test", "data_hash": data_hash("mnist", "test")}
        tournament = store.register_tournament(conditions, dataset(conditions["data_hash"]))
        for defense in (arena.load_defense("cnn"), arena.load_defense("binary-cnn")):
            for attack in (arena.load_attack("deepfool-l2"), arena.load_attack("fgsm")):
                ids = store.register_defense(defense.identity), store.register_attack(attack.identity)
                match = store.register_match(tournament, *ids, attack.norm, None)
                store.append(match, arena.play(defense, attack, x, y))
                store.make_current(ids[0], tournament)
            store_bounds(store, dict.fromkeys(range(4), 0.0), of=defense.identity, data_hash=conditions["data_hash"])
    return folder


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the program sqlite3 is not installed")
@pytest.mark.parametrize("query", [block for block in blocks("sh") if "sqlite3" in block])
def test_the_queries_answer_in_the_bare_sqlite3(folder: Path, query: str) -> None:
    answer = subprocess.run(query, shell=True, cwd=folder, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    assert len(answer.stdout.splitlines()) > 4  # more than the frame of an empty answer


def test_the_notebook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (code,) = [block for block in blocks("python") if "arena.play" in block]
    if importlib.util.find_spec("pandas") is None:
        code = code.replace(".to_frame()", "")
    exec(compile(code, "README.md", "exec"), {})


def test_the_attack_is_that_of_the_example() -> None:
    (code,) = [block for block in blocks("python") if "register_attacks" in block]
    example = Path(__file__).parents[1] / "examples" / "arena-attack-invert" / "arena_attack_invert.py"
    assert re.sub(r'\s*""".*?"""', "", example.read_text(), flags=re.DOTALL).split() == code.split()


def test_the_defense_keeps_its_contract_on_the_data_set() -> None:
    registered: list[Any] = []
    for hook in ("register_defenses", "register_datasets"):
        (code,) = [block for block in blocks("python") if hook in block]
        names: dict[str, Any] = {"__name__": "readme"}
        exec(compile(code, "README.md", "exec"), names)
        names[hook](registered.append)
    defense, data = registered
    x, y = load_split(data, "test", 20)
    assert check_defense(defense, x=x).ok
    records = arena.play(defense(), arena.load_attack("fgsm"), x, y)
    assert [record.clean_label for record in records] == y.tolist()
