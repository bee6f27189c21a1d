"""The tables. Other programs rely on their columns (docs: the store).

The SQL here and in the views keeps to what SQLite >= 3.37 and PostgreSQL both take.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    literal_column,
)

from arena.geometry.norms import NORMS, SPECS
from arena.interface.results import BOUND_KINDS, Status

_ALWAYS_MEASURED = [spec.name for spec in SPECS.values() if spec.since == 1]

WITHIN = 1 + 1e-6  # a distance up to epsilon * WITHIN is within epsilon: float32(0.1) is more than 0.1

LARGEST = "1.7976931348623157e308"  # the largest double: no infinity can be written in both dialects

_WHOLE = BigInteger().with_variant(Integer, "sqlite")  # SQLite's integers have 64 bits, PostgreSQL's have 32


def _one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, map(str, values)))})", name=f"{column}_known")


metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

dataset = Table(
    "dataset",
    metadata,
    Column("data_hash", Text, primary_key=True),  # as in tournament
    Column("description", Text, nullable=False),  # JSON: what opens it again
    Column("shape", Text, nullable=False),  # JSON: [C, H, W]
    Column("classes", Integer, nullable=False),
    Column("class_names", Text, nullable=False),  # JSON
)

# What adversarials may be stored as differences from.
clean = Table(
    "clean",
    metadata,
    Column("data_hash", Text, primary_key=True),  # as in tournament
    Column("sample", Integer, primary_key=True),
    Column("image", LargeBinary, nullable=False),  # as result.adversarial, whole
)

# The perturbation size at which the accuracy is read.
threshold = Table(
    "threshold",
    metadata,
    Column("data_hash", Text, primary_key=True),
    Column("norm", Text, primary_key=True),
    Column("epsilon", Double, nullable=False),
)

defense = Table(
    "defense",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("package", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("settings", Text, nullable=False),  # JSON
    Column("last_used", Integer, nullable=False),  # the larger the later: the latest of each name counts; 0: never
)

attack = Table(
    "attack",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, CheckConstraint("name <> 'all'", name="name_free"), nullable=False),  # 'all' is the minimum
    Column("norm", Text, nullable=False),
    Column("access", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("package", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("settings", Text, nullable=False),  # JSON
    _one_of("norm", NORMS),
)

tournament = Table(
    "tournament",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", Text, nullable=False, unique=True),  # of the conditions
    Column("dataset", Text, nullable=False),
    Column("split", Text, nullable=False),
    Column("data_hash", Text, nullable=False),
    Column("conditions", Text, nullable=False),  # JSON: everything that decides the rows, the three above included
    Column("environments", Text, nullable=False),  # JSON: versions of each environment it was played in, in order
    Column("last_used", Integer, nullable=False),
)

match = Table(
    "match",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tournament_id", ForeignKey("tournament.id"), nullable=False),
    Column("defense_id", ForeignKey("defense.id"), nullable=False),
    Column("attack_id", ForeignKey("attack.id"), nullable=False),
    Column("norm", Text, nullable=False),
    Column("budget", _WHOLE),  # queries per sample, NULL: unlimited
    Column("status", Text, nullable=False),
    Column("error", Text),  # the traceback of the last unit that failed
    _one_of("norm", NORMS),
    _one_of("status", ("playing", "played", "failed")),
)
# A plain unique constraint would take every NULL budget for a different one.
Index(
    "match_key",
    match.c.tournament_id,
    match.c.defense_id,
    match.c.attack_id,
    func.coalesce(match.c.budget, -1),
    unique=True,
)

result = Table(
    "result",
    metadata,
    Column("match_id", ForeignKey("match.id"), primary_key=True),
    Column("sample", Integer, primary_key=True),
    Column("label", Integer, nullable=False),
    Column("clean_label", Integer),
    Column("adversarial_label", Integer),
    Column("status", Text, nullable=False),
    Column("distance", Double),  # in the norm of the match
    *(Column(norm, Double) for norm in NORMS),  # of the stored adversarial
    Column("margin", Double),
    Column("queries", _WHOLE, nullable=False),
    Column("gradient_queries", _WHOLE, nullable=False),
    Column("best_query", _WHOLE),
    Column("seconds", Double, nullable=False),
    Column("reason", Text),
    Column("adversarial", LargeBinary),  # float32 [C, H, W], see blobs.py
    Column("fragile", Boolean),  # it vanishes when the defense's inference converges; NULL: nothing to converge
    Column("progress", Text),  # JSON: [query, distance] of each closer adversarial that was seen
    Column("masked", Integer),  # gradient queries answered by nothing; NULL: of an arena that did not count them
    _one_of("status", Status),
    CheckConstraint(
        f"CASE WHEN status IN ('{Status.ERROR}', '{Status.UNSTABLE}') THEN distance IS NULL"
        f" WHEN status = '{Status.MISCLASSIFIED}' THEN distance IS NOT NULL AND distance = 0"
        f" WHEN status = '{Status.FOUND}' THEN distance IS NOT NULL AND distance BETWEEN 0 AND {LARGEST}"
        f" AND {' AND '.join(f'{norm} IS NOT NULL' for norm in _ALWAYS_MEASURED)} AND adversarial IS NOT NULL"
        f" ELSE distance IS NOT NULL AND distance > {LARGEST} END",
        name="distance_of_status",
    ),
)
FAILED = result.c.status == literal_column(f"'{Status.ERROR}'")  # no parameter: an index on a condition needs its words
Index("result_failed", result.c.match_id, result.c.sample, sqlite_where=FAILED, postgresql_where=FAILED)
MASKED = result.c.masked > literal_column("0")
Index("result_masked", result.c.match_id, result.c.sample, sqlite_where=MASKED, postgresql_where=MASKED)
# All that a leaderboard reads, beside the adversarials' gigabytes instead of between them.
Index(
    "result_evidence",
    *(result.c[name] for name in ("match_id", "sample", "distance", "status", *NORMS, "fragile")),
)

# Who derives lower bounds.
bound = Table(
    "bound",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("package", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("settings", Text, nullable=False),  # JSON
    Column("last_used", Integer, nullable=False),  # as in defense
)

bound_value = Table(
    "bound_value",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("defense_id", ForeignKey("defense.id"), nullable=False),
    Column("bound_id", ForeignKey("bound.id"), nullable=False),
    Column("data_hash", Text, nullable=False),  # as in tournament
    Column("sample", Integer, nullable=False),
    Column("norm", Text, nullable=False),
    Column("seed", _WHOLE, nullable=False),
    Column("kind", Text, nullable=False),  # what the value is worth
    Column("value", Double, nullable=False),
    UniqueConstraint("defense_id", "bound_id", "data_hash", "sample", "norm", "seed"),
    _one_of("norm", NORMS),
    _one_of("kind", BOUND_KINDS),
)

distal = Table(
    "distal",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("defense_id", ForeignKey("defense.id"), nullable=False),
    Column("label", Integer, nullable=False),  # the class that the image is to be taken for
    Column("gradient", Text, nullable=False),  # autograd, straight-through, exact or estimated
    Column("seed", _WHOLE, nullable=False),
    Column("status", Text, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("queries", _WHOLE, nullable=False),
    Column("gradient_queries", _WHOLE, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("image", LargeBinary, nullable=False),  # as result.adversarial
    UniqueConstraint("defense_id", "label", "gradient", "seed"),
    _one_of("status", (Status.FOUND, Status.NOT_FOUND)),
)
