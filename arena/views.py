"""The views, for people who open the database with `sqlite3`."""

from __future__ import annotations

from sqlalchemy import column, table

from arena.record import Status

VIEWS = {
    # The matches that count: each defense as it was last used, on the data that was last used. Attacks of all
    # settings, seeds and budgets count, for an adversarial is an adversarial however it was found.
    "current_match": """
        SELECT m.id, m.tournament_id, m.norm, m.budget, a.name AS attack, d.name AS defense, d.id AS defense_id
        FROM match m
        JOIN attack a ON a.id = m.attack_id
        JOIN defense d ON d.id = m.defense_id
        JOIN tournament t ON t.id = m.tournament_id
        JOIN tournament latest ON latest.dataset = t.dataset AND latest.split = t.split
            AND latest.data_hash = t.data_hash
        WHERE latest.last_used = (SELECT MAX(last_used) FROM tournament)
            AND d.last_used = (SELECT MAX(other.last_used) FROM defense other WHERE other.name = d.name)""",
    # The closest verified adversarial of each sample over all attacks of a norm; the first of equally close ones.
    "best_result": """
        SELECT defense, norm, sample, attack, distance, status, match_id
        FROM (
            SELECT m.defense, m.norm, m.attack, r.sample, r.distance, r.status, r.match_id,
                ROW_NUMBER() OVER (
                    PARTITION BY m.defense, m.norm, r.sample ORDER BY r.distance, r.match_id
                ) AS place
            FROM current_match m
            JOIN result r ON r.match_id = m.id
            WHERE r.distance IS NOT NULL
        ) AS ranked
        WHERE place = 1""",
    # What `arena leaderboard` prints (leaderboard.py computes the same, faster).
    "leaderboard": f"""
        WITH per_attack AS (
            SELECT m.defense_id, m.norm, m.attack, r.sample, MIN(r.distance) AS distance,
                SUM(CASE WHEN r.status = '{Status.ERROR}' THEN 1 ELSE 0 END) AS errors
            FROM current_match m
            JOIN result r ON r.match_id = m.id
            GROUP BY m.defense_id, m.norm, m.attack, r.sample
        ), with_all AS (
            SELECT * FROM per_attack
            UNION ALL
            SELECT defense_id, norm, 'all', sample, MIN(distance), SUM(errors)
            FROM per_attack
            GROUP BY defense_id, norm, sample
        ), ranked AS (
            SELECT w.*, t.epsilon,
                ROW_NUMBER() OVER (PARTITION BY w.defense_id, w.norm, w.attack ORDER BY w.distance NULLS LAST) AS place,
                COUNT(w.distance) OVER (PARTITION BY w.defense_id, w.norm, w.attack) AS samples
            FROM with_all w
            JOIN threshold t ON t.norm = w.norm
        ), summary AS (
            SELECT defense_id, norm, attack, samples, SUM(errors) AS errors, epsilon,
                AVG(CASE WHEN distance > 0 THEN 1.0 WHEN distance <= 0 THEN 0.0 END) AS clean_accuracy,
                (MAX(CASE WHEN place = (samples + 1) / 2 THEN distance END)
                    + MAX(CASE WHEN place = samples / 2 + 1 THEN distance END)) / 2 AS median_distance,
                AVG(CASE WHEN distance > epsilon THEN 1.0 WHEN distance <= epsilon THEN 0.0 END) AS accuracy
            FROM ranked
            GROUP BY defense_id, norm, attack, samples, epsilon
        )
        SELECT d.name AS defense, s.norm, s.attack, s.samples, s.errors, s.clean_accuracy, s.median_distance, s.epsilon,
            s.accuracy, b.lower_bound_mean, d.fingerprint
        FROM summary s
        JOIN defense d ON d.id = s.defense_id
        LEFT JOIN (
            SELECT defense_id, norm, AVG(value) AS lower_bound_mean FROM bound GROUP BY defense_id, norm
        ) AS b ON b.defense_id = s.defense_id AND b.norm = s.norm""",
}

current_match = table(
    "current_match", *map(column, ("id", "tournament_id", "norm", "budget", "attack", "defense", "defense_id"))
)
