"""Which changes of the code that decides numbers does no test notice? `make mutation`, or with a number of mutants.

Cosmic Ray makes the mutants; a random sample of them, the same each time, is tried, each in a fork that has torch
loaded already and sees a copy of the package. Those that no test notices are printed.
"""

from __future__ import annotations

import ast
import difflib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import hypothesis  # noqa: F401  loaded once, as what follows
import numpy  # noqa: F401
import pytest
import torch
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
REFEREE = ["tests/evaluation/test_referee.py", "tests/evaluation/test_fragile.py"]
TESTS = {
    "arena/evaluation/referee.py": REFEREE,
    "arena/evaluation/claims.py": REFEREE,
    "arena/target/query_log.py": ["tests/target/test_target.py", "tests/evaluation/test_referee.py"],
    **{
        file.relative_to(ROOT).as_posix(): ["tests/geometry"]
        for file in sorted((ROOT / "arena" / "geometry").glob("*.py"))
    },
}
SECONDS = 180  # a mutant that takes longer has been noticed


class Unannotated(ast.NodeTransformer):
    """Takes out what nothing executes."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def executed(code: str) -> str | None:
    """What a text does, to compare; None if it is no Python."""
    try:
        return ast.dump(Unannotated().visit(ast.parse(code)))
    except SyntaxError:
        return None


def places(file: str) -> Iterator[tuple[str, str, int]]:
    """Where each operator could change a file: file, operator and the number of the place among its own."""
    nodes = list(ast_nodes(get_ast((ROOT / file).read_text(encoding="utf-8"))))
    for name in operator_names():
        if not (operator := get_operator(name)).arguments():
            for occurrence, _ in enumerate(at for node in nodes for at in operator().mutation_positions(node)):
                yield file, name, occurrence


def mutant_of(file: str, operator: str, occurrence: int) -> str | None:
    """The text with that change; None if it says the same, or nothing."""
    code = (ROOT / file).read_text(encoding="utf-8")
    mutant = mutate_code(code, get_operator(operator)(), occurrence)
    return mutant if mutant and executed(mutant) not in (None, executed(code)) else None


def noticed(package: Path, file: str, mutant: str) -> bool:
    """Whether a test fails, or ends otherwise, on the mutant."""
    place, original = package / file, (ROOT / file).read_text(encoding="utf-8")
    place.write_text(mutant, encoding="utf-8")
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        sys.path.insert(0, str(package))
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        os._exit(int(pytest.main(["-x", "-n0", "-p", "no:cacheprovider", "--no-cov", *TESTS[file]])))
    _, status = os.waitpid(child, 0)
    place.write_text(original, encoding="utf-8")
    return status != 0


def main(number: int) -> int:
    torch.set_num_threads(1)
    os.chdir(ROOT)
    every = [place for file in TESTS for place in places(file)]
    random.Random(0).shuffle(every)
    changed = ((place[0], mutant) for place in every if (mutant := mutant_of(*place)) is not None)
    sample = list(islice(changed, number))
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        shutil.copytree(ROOT / "arena", package / "arena", ignore=shutil.ignore_patterns("__pycache__"))
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True  # a stale one would hide a mutant of the same size and second
        for file in ("arena/geometry/norms.py", "arena/target/query_log.py"):
            if noticed(package, file, (ROOT / file).read_text(encoding="utf-8")):
                sys.exit(f"the tests of {file} fail without a mutant")
        for file, mutant in sample:
            if not noticed(package, file, mutant):
                survivors += 1
                before, after = ((ROOT / file).read_text(encoding="utf-8").splitlines(), mutant.splitlines())
                print(*difflib.unified_diff(before, after, file, file, n=0, lineterm=""), sep="\n", flush=True)
    print(f"{survivors} of {len(sample)} mutants survived; of about {len(every)} that there are")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
