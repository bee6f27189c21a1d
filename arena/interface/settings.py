"""Settings of the arena and of its plugins: typed, frozen, and strict about unknown keys."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from arena.errors import UserError


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, infinities and NaN refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


RESERVED = {
    "defense": ("model", "weights", "samples", "attacks", "device"),
    "attack": ("samples", "budget", "timeout"),
    "bound": ("samples", "timeout"),
}
"""Keys of [defense.NAME], [attack.NAME] and [bound.NAME], or of a load_ function, that never reach the plugin."""

S = TypeVar("S", bound=BaseModel)


def parse_settings(model: type[S], values: dict[str, Any], owner: str) -> S:
    """Validate `values`; raises UserError with one line that names `owner`, the key and the remedy."""
    try:
        return model.model_validate(values)
    except ValidationError as failure:
        first = failure.errors()[0]
        *path, key = first["loc"] or ("settings",)
        owner = " ".join([owner, *map(str, path)])
        if first["type"] == "extra_forbidden":
            raise UserError(f"{owner}: unknown key {key!r}; {did_you_mean(str(key), _keys(model, path))}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{owner}: {key} = {first['input']!r}: {message[:1].lower()}{message[1:]}") from None


def did_you_mean(name: str, known: list[str]) -> str:
    """The remedy for a misspelt name: the close ones, else all."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(sorted(known))}" if known else "there are none"


def _keys(model: Any, path: list[Any]) -> list[str]:
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    return sorted(getattr(model, "model_fields", {}))
