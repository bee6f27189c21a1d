"""The views, for people who open the database with `sqlite3`."""

from __future__ import annotations

from sqlalchemy import column, table

from arena.interface.results import Status
from arena.store.schema import LARGEST, WITHIN

# An unstable answer has no distance, and is no failure of the attack either: of a sample's rows any adversarial that
# holds comes before it, and a failed attack after it.
_CLOSENESS = f"CASE r.status WHEN '{Status.UNSTABLE}' THEN {LARGEST} ELSE r.distance END"

_BEST_BOUND = """
        SELECT defense_id, data_hash, sample, norm, bound, kind, value
        FROM (
            SELECT b.*,
                ROW_NUMBER() OVER (
                    PARTITION BY defense_id, data_hash, sample, norm ORDER BY value DESC, bound
                ) AS place
            FROM current_bound b
            WHERE kind {} 'statistical'
        ) AS ranked
        WHERE place = 1"""

VIEWS = {
    # The matches that count: each defense as it was last used, on the data that was last used; 0 is what was only
    # registered. Attacks of all settings, seeds and budgets count, for an adversarial is an adversarial however it was
    # found.
    "current_match": """
        SELECT m.id, m.tournament_id, m.norm, m.budget, a.name AS attack, d.name AS defense, d.id AS defense_id,
            t.data_hash
        FROM match m
        JOIN attack a ON a.id = m.attack_id
        JOIN defense d ON d.id = m.defense_id
        JOIN tournament t ON t.id = m.tournament_id
        JOIN tournament latest ON latest.dataset = t.dataset AND latest.split = t.split
            AND latest.data_hash = t.data_hash
        WHERE latest.last_used = (SELECT MAX(last_used) FROM tournament) AND latest.last_used > 0
            AND d.last_used = (SELECT MAX(other.last_used) FROM defense other WHERE other.name = d.name)
            AND d.last_used > 0""",
    # The closest verified adversarial of each sample over all attacks of a norm; the first of equally close ones. An
    # unstable sample, without distance, where an attack found none that holds.
    "best_result": f"""
        SELECT defense, norm, sample, attack, distance, status, match_id
        FROM (
            SELECT m.defense, m.norm, m.attack, r.sample, r.distance, r.status, r.match_id,
                ROW_NUMBER() OVER (
                    PARTITION BY m.defense, m.norm, r.sample ORDER BY {_CLOSENESS}, r.match_id
                ) AS place
            FROM current_match m
            JOIN result r ON r.match_id = m.id
            WHERE r.status <> '{Status.ERROR}'
        ) AS ranked
        WHERE place = 1""",
    # The lower bounds that count, each as it was last computed. A search may miss the minimum: of its seeds the least
    # counts.
    "current_bound": """
        SELECT v.defense_id, v.data_hash, v.sample, v.norm, b.name AS bound, v.kind, MIN(v.value) AS value
        FROM bound_value v
        JOIN bound b ON b.id = v.bound_id
        WHERE b.last_used = (SELECT MAX(other.last_used) FROM bound other WHERE other.name = b.name) AND b.last_used > 0
        GROUP BY v.defense_id, v.data_hash, v.sample, v.norm, b.name, v.kind""",
    # The best of each sample; statistical ones, which may fail, are kept apart.
    "lower_bound": _BEST_BOUND.format("<>"),
    "statistical_bound": _BEST_BOUND.format("="),
    # What `arena leaderboard` prints; leaderboard.py computes the same, faster. Rows are grouped by the first match of
    # their kind and keep their epsilon: grouping by names, or joining late, takes a million rows twice the time.
    "leaderboard": f"""
        WITH numbered AS (
            SELECT m.*, t.epsilon,
                MIN(m.id) OVER (PARTITION BY m.defense_id, m.norm) AS all_group,
                MIN(m.id) OVER (PARTITION BY m.defense_id, m.norm, m.attack) AS attack_group
            FROM current_match m
            LEFT JOIN threshold t ON t.norm = m.norm AND t.data_hash = m.data_hash
        ), bounded AS (
            SELECT defense_id, norm, sample, value
            FROM lower_bound
            WHERE data_hash = (SELECT data_hash FROM tournament ORDER BY last_used DESC LIMIT 1)
        ), per_attack AS (
            SELECT n.all_group, n.attack_group, n.epsilon, r.sample, MIN({_CLOSENESS}) AS closeness,
                MIN(CASE WHEN r.fragile THEN NULL ELSE {_CLOSENESS} END) AS solid,
                SUM(CASE WHEN r.status = '{Status.ERROR}' THEN 1 ELSE 0 END) AS errors, MAX(b.value) AS lower_bound
            FROM numbered n
            JOIN result r ON r.match_id = n.id
            LEFT JOIN bounded b ON b.defense_id = n.defense_id AND b.norm = n.norm AND b.sample = r.sample
            GROUP BY n.all_group, n.attack_group, n.epsilon, r.sample
        ), per_group AS (
            SELECT attack_group AS first_match, 0 AS is_all, epsilon, closeness, solid, errors, lower_bound
            FROM per_attack
            UNION ALL
            SELECT all_group, 1, epsilon, MIN(closeness), MIN(solid), SUM(errors), MAX(lower_bound)
            FROM per_attack
            GROUP BY all_group, epsilon, sample
        ), per_sample AS (
            SELECT g.*, NULLIF(closeness, {LARGEST}) AS distance,
                CASE WHEN closeness = {LARGEST} THEN 1 ELSE 0 END AS unstable
            FROM per_group g
        ), ranked AS (
            SELECT s.*,
                ROW_NUMBER() OVER (PARTITION BY first_match, is_all ORDER BY distance NULLS LAST) AS place,
                COUNT(distance) OVER (PARTITION BY first_match, is_all) AS measured
            FROM per_sample s
        ), summary AS (
            SELECT first_match, is_all, epsilon, measured + SUM(unstable) AS samples, SUM(errors) AS errors,
                AVG(CASE WHEN closeness > 0 THEN 1.0 WHEN closeness <= 0 THEN 0.0 END) AS clean_accuracy,
                (MAX(CASE WHEN place = (measured + 1) / 2 THEN distance END)
                    + MAX(CASE WHEN place = measured / 2 + 1 THEN distance END)) / 2 AS median_distance,
                AVG(CASE WHEN distance IS NOT NULL THEN lower_bound END) AS lower_bound_mean,
                AVG(CASE WHEN lower_bound IS NOT NULL THEN distance END) AS mean_distance,
                COUNT(CASE WHEN distance < solid OR solid IS NULL THEN distance END) AS fragile,
                AVG(CASE WHEN epsilon IS NULL THEN NULL
                    WHEN distance > epsilon * {WITHIN} THEN 1.0 WHEN closeness >= 0 THEN 0.0 END) AS accuracy,
                SUM(unstable) AS unstable
            FROM ranked
            GROUP BY first_match, is_all, epsilon, measured
        )
        SELECT d.name AS defense, n.norm, CASE s.is_all WHEN 1 THEN 'all' ELSE n.attack END AS attack,
            s.samples, CAST(s.errors AS BIGINT) AS errors, CAST(s.clean_accuracy AS DOUBLE PRECISION) AS clean_accuracy,
            s.median_distance, s.epsilon, CAST(s.accuracy AS DOUBLE PRECISION) AS accuracy, s.lower_bound_mean,
            d.fingerprint, s.fragile, s.mean_distance, s.unstable
        FROM summary s
        JOIN numbered n ON n.id = s.first_match
        JOIN defense d ON d.id = n.defense_id""",
}

best_result = table(
    "best_result", *map(column, ("defense", "norm", "sample", "attack", "distance", "status", "match_id"))
)

current_match = table(
    "current_match", *map(column, ("id", "tournament_id", "norm", "budget", "attack", "defense", "defense_id"))
)

_OF_BOUND = ("defense_id", "data_hash", "sample", "norm", "bound", "kind", "value")

current_bound, lower_bound, statistical_bound = (
    table(name, *map(column, _OF_BOUND)) for name in ("current_bound", "lower_bound", "statistical_bound")
)
