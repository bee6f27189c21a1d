"""Identity of a plugin: equal fingerprints promise equal results, so the store may reuse them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from arena.errors import UserError
from arena.interface.source import code_digest, distribution_of, required
from arena.interface.state import Digester, Undecidable

REFEREE = "arena.evaluation.referee"  # with what it imports the code that decides what a row says


def fingerprint(plugin: Any) -> str:
    """SHA-256 (hex) of all that decides a plugin's results.

    That is its name and settings; the code of its class and of what that imports (see `code_digest`); its package's
    version, and those of the packages which that requires; the bytes of `weights`; its state (see `Digester`); and the
    code of the referee and of the target. Comments, docstrings, devices and places of files do not decide.

    Raises:
        UserError: an attribute cannot be told from another.
    """
    package, version = distribution_of(type(plugin).__module__)
    libraries = [] if package in ("arena-robustness", "local") else required(package)
    identity = [plugin.name, package, version, libraries, plugin.settings.model_dump(mode="json")]
    digester = Digester(files=[] if plugin.weights is None else [plugin.weights])
    try:
        parts = [
            digester.digest(type(plugin)),
            digester.digest(plugin.weights),
            digester.digest(plugin.fingerprint_state()),
        ]
    except Undecidable as failure:
        attribute, reason = failure.args
        raise UserError(
            f"{plugin.name}: {attribute} cannot be compared between runs ({reason}); make it where it is used, or"
            " define fingerprint_state(self), which returns what decides the results"
        ) from None
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for part in (code_digest([REFEREE]), *parts):
        digest.update(part)
    return digest.hexdigest()
