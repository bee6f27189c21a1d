"""What plugins declare, what they offer, and which of it is refused."""

from collections.abc import Sequence
from typing import Any

import pytest

import arena
from arena.interface.contracts import Converges, Defense, ExactGradient, Reconstructs
from arena.interface.prototypes import HasPrototypes
from arena.interface.registry import Kind, declaration_faults, load_attack, registry
from arena.interface.settings import RESERVED
from arena.testing import ExactLinearDefense, LinearDefense, LinearPrototypes, check_attack, check_defense
from arena.tournament.config import AttackSettings, BoundSettings, DefenseSettings

ATTACK = {"name": "mine", "norm": "l2", "access": "score", "run": lambda self, target, x, y, rng: x}
BOUND = {"name": "mine", "norms": ("l2",), "kind": "certificate", "run": lambda self, defense, x, y, norm, rng: 0 * y}
DECLARED: dict[type[Any], dict[str, Any]] = {arena.Attack: ATTACK, arena.Bound: BOUND}
BASES: dict[Kind, type[Any]] = {"attack": arena.Attack, "defense": LinearDefense, "bound": arena.Bound}


def made(base: type[Any] = arena.Attack, keys: Sequence[str] = (), **declared: Any) -> type[Any]:
    body = {"__annotations__": dict.fromkeys(keys, int), **dict.fromkeys(keys, 1)}
    settings = type("Settings", (arena.Settings,), body)
    return type("Mine", (base,), DECLARED.get(base, {}) | {"Settings": settings} | declared)


def test_needs_is_the_old_word_for_access() -> None:
    namespace = {"name": "old", "norm": "l2", "needs": "score", "run": lambda self, target, x, y, rng: x}
    with pytest.warns(DeprecationWarning, match="needs is now called access"):
        old: Any = type("Old", (arena.Attack,), namespace)
    assert old.access == "score" and old().identity.access == "score"


OFFERED: dict[str, set[type[Any]]] = {
    "abs": {ExactGradient, Reconstructs, HasPrototypes, Converges},
    "binary-abs": {ExactGradient, Reconstructs, HasPrototypes, Converges},
    "nearest-neighbor": {ExactGradient, HasPrototypes},
    "cnn": set(),
}


@pytest.mark.parametrize("name", OFFERED)
def test_capabilities_can_be_asked_of_classes(name: str) -> None:
    cls = registry().find("defense", name).cls
    assert {
        each for each in (ExactGradient, Reconstructs, HasPrototypes, Converges) if issubclass(cls, each)
    } == OFFERED[name]


def test_and_of_defenses() -> None:
    assert isinstance(LinearPrototypes(), HasPrototypes) and isinstance(LinearPrototypes(), Reconstructs)
    assert isinstance(ExactLinearDefense(), ExactGradient) and not isinstance(LinearDefense(), ExactGradient)
    assert not any(issubclass(Defense, each) for each in (ExactGradient, Reconstructs, HasPrototypes, Converges))


@pytest.mark.parametrize("name", ["mine", "my-attack.2", "L2"])
def test_names_that_every_shell_and_table_can_take(name: str) -> None:
    assert declaration_faults("attack", made(name=name)) == []


@pytest.mark.parametrize("name", ["", "all", "-x", "a b", "a/b", "a|b", "a\nb", "=1", "naïve", "a_b", None, 7])
def test_other_names_are_refused(name: int | str | None) -> None:
    (fault,) = declaration_faults("attack", made(name=name))
    assert "use letters, digits, dots and dashes" in fault and "\n" not in fault
    assert [finding.check for finding in check_attack(made(name=name)).findings if not finding.passed] == [
        "declaration"
    ]


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in RESERVED.items() for key in keys])
def test_settings_that_would_be_swallowed_are_refused(kind: Kind, key: str) -> None:
    cls = made(BASES[kind], [key, "steps"])
    (fault,) = declaration_faults(kind, cls)
    assert f"setting {key!r}" in fault and f"[{kind}.{cls.name}]" in fault and "rename" in fault
    if kind != "bound":
        report = check_attack(cls) if kind == "attack" else check_defense(cls)
        assert [finding.check for finding in report.findings if not finding.passed] == ["declaration"]


def test_the_reserved_names_are_those_of_the_settings_file() -> None:
    assert set(RESERVED["attack"]) == set(AttackSettings.model_fields)
    assert set(RESERVED["bound"]) == set(BoundSettings.model_fields)
    assert set(RESERVED["defense"]) == {*DefenseSettings.model_fields, "device"}


@pytest.mark.parametrize(
    ("declared", "part"),
    [
        ({"norms": ()}, "norms = ()"),
        ({"norms": "l2"}, "norms = 'l2'"),
        ({"norms": ("l2", "l3")}, "norms = ('l2', 'l3')"),
        ({"norms": (["l2"],)}, "norms = (['l2'],)"),
        ({"kind": "joint"}, "kind = 'joint' must be one of certificate, estimate, statistical"),
        ({"name": "a b"}, "use letters, digits, dots and dashes"),
    ],
)
def test_what_a_bound_declares(declared: dict[str, Any], part: str) -> None:
    assert declaration_faults("bound", made(arena.Bound)) == []
    (fault,) = declaration_faults("bound", made(arena.Bound, **declared))
    assert part in fault and "\n" not in fault


def test_bounds_are_told_apart_by_their_settings() -> None:
    cls = made(arena.Bound, ["steps"])
    assert cls().fingerprint == cls(steps=1).fingerprint != cls(steps=2).fingerprint
    assert cls().identity.norm is None and cls(steps=2).identity.settings == {"steps": 2}
    assert declaration_faults("bound", arena.Attack) == ["Attack is not a subclass of arena.Bound"]


def test_an_exact_gradient_is_a_method() -> None:
    (fault,) = declaration_faults("defense", made(LinearDefense, gradient="exact"))
    assert "score_gradient" in fault


@pytest.mark.parametrize(("kind", "name"), [key for key in registry().plugins if key[0] != "dataset"])
def test_every_setting_is_described(kind: Kind, name: str) -> None:
    fields = registry().find(kind, name).cls.Settings.model_fields
    assert [key for key, field in fields.items() if not field.description] == []


def test_identities_name_norm_and_access() -> None:
    identity = load_attack("deepfool-l2").identity
    assert (identity.norm, identity.access) == ("l2", "gradient")
