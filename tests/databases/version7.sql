PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE "attack" (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL CONSTRAINT name_free CHECK (name <> 'all'), 
	norm TEXT NOT NULL, 
	access TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	package TEXT NOT NULL, 
	version TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT norm_known CHECK (norm IN ('l0', 'l1', 'l2', 'linf')), 
	UNIQUE (fingerprint)
);
INSERT INTO "attack" VALUES(1,'boundary','l2','decision','boundary 1','arena-robustness','0.1.0','{"steps": 1}');
CREATE TABLE "bound" (
	id INTEGER NOT NULL, 
	defense_id INTEGER NOT NULL, 
	data_hash TEXT NOT NULL, 
	sample INTEGER NOT NULL, 
	norm TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	seed INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (defense_id, data_hash, sample, norm, kind, seed), 
	CONSTRAINT norm_known CHECK (norm IN ('l0', 'l1', 'l2', 'linf')), 
	FOREIGN KEY(defense_id) REFERENCES defense (id)
);
INSERT INTO "bound" VALUES(1,1,'5eed',0,'l2','joint',0.25,0);
INSERT INTO "bound" VALUES(2,1,'5eed',1,'l2','joint',0.5,0);
INSERT INTO "bound" VALUES(3,1,'5eed',0,'l2','joint',0.125,1);
INSERT INTO "bound" VALUES(4,1,'5eed',0,'l1','separate',3.0,0);
CREATE TABLE dataset (
	data_hash TEXT NOT NULL, 
	description TEXT NOT NULL, 
	shape TEXT NOT NULL, 
	classes INTEGER NOT NULL, 
	class_names TEXT NOT NULL, 
	PRIMARY KEY (data_hash)
);
CREATE TABLE defense (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	package TEXT NOT NULL, 
	version TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	last_used INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (fingerprint)
);
INSERT INTO "defense" VALUES(1,'cnn','cnn a','arena-robustness','0.1.0','{"weights": "a"}',2);
CREATE TABLE "distal" (
	id INTEGER NOT NULL, 
	defense_id INTEGER NOT NULL, 
	label INTEGER NOT NULL, 
	gradient TEXT NOT NULL, 
	seed INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	confidence DOUBLE NOT NULL, 
	steps INTEGER NOT NULL, 
	queries INTEGER NOT NULL, 
	gradient_queries INTEGER NOT NULL, 
	seconds DOUBLE NOT NULL, 
	image BLOB NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (defense_id, label, gradient, seed), 
	CONSTRAINT status_known CHECK (status IN ('found', 'not_found')), 
	FOREIGN KEY(defense_id) REFERENCES defense (id)
);
INSERT INTO "distal" VALUES(1,1,3,'exact',0,'found',0.95,5,7,5,0.1,X'789CEDC3010D00000CC3A03ABB7F57B7300190505DAAAAAAC3074E83C0F1');
CREATE TABLE "match" (
	id INTEGER NOT NULL, 
	tournament_id INTEGER NOT NULL, 
	defense_id INTEGER NOT NULL, 
	attack_id INTEGER NOT NULL, 
	norm TEXT NOT NULL, 
	budget INTEGER, 
	status TEXT NOT NULL, 
	error TEXT, 
	PRIMARY KEY (id), 
	CONSTRAINT norm_known CHECK (norm IN ('l0', 'l1', 'l2', 'linf')), 
	CONSTRAINT status_known CHECK (status IN ('playing', 'played', 'failed')), 
	FOREIGN KEY(tournament_id) REFERENCES tournament (id), 
	FOREIGN KEY(defense_id) REFERENCES defense (id), 
	FOREIGN KEY(attack_id) REFERENCES attack (id)
);
INSERT INTO "match" VALUES(1,1,1,1,'l2',NULL,'failed','Traceback: boom');
CREATE TABLE "result" (
	match_id INTEGER NOT NULL, 
	sample INTEGER NOT NULL, 
	label INTEGER NOT NULL, 
	clean_label INTEGER, 
	adversarial_label INTEGER, 
	status TEXT NOT NULL, 
	distance DOUBLE, 
	l0 DOUBLE, 
	l1 DOUBLE, 
	l2 DOUBLE, 
	linf DOUBLE, 
	margin DOUBLE, 
	queries INTEGER NOT NULL, 
	gradient_queries INTEGER NOT NULL, 
	best_query INTEGER, 
	seconds DOUBLE NOT NULL, 
	reason TEXT, 
	adversarial BLOB, 
	fragile BOOLEAN, 
	progress TEXT, 
	masked INTEGER, 
	PRIMARY KEY (match_id, sample), 
	CONSTRAINT status_known CHECK (status IN ('misclassified', 'found', 'not_found', 'rejected', 'unstable', 'error')), 
	CONSTRAINT distance_of_status CHECK (CASE WHEN status IN ('error', 'unstable') THEN distance IS NULL WHEN status = 'misclassified' THEN distance IS NOT NULL AND distance = 0 WHEN status = 'found' THEN distance IS NOT NULL AND distance BETWEEN 0 AND 1.7976931348623157e308 AND l0 IS NOT NULL AND l2 IS NOT NULL AND linf IS NOT NULL AND adversarial IS NOT NULL ELSE distance IS NOT NULL AND distance > 1.7976931348623157e308 END), 
	FOREIGN KEY(match_id) REFERENCES "match" (id)
);
INSERT INTO "result" VALUES(1,0,1,1,3,'found',1.0,1.0,NULL,1.0,1.0,0.5,10,0,7,0.0,NULL,X'789CEDC3010D00000CC3A03ABB7F57B7300190505DAAAAAAC3074E83C0F1',1,'[[7, 1.0]]',NULL);
INSERT INTO "result" VALUES(1,1,1,1,NULL,'not_found',9e999,NULL,NULL,NULL,NULL,NULL,10,0,NULL,0.0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "result" VALUES(1,2,1,1,NULL,'error',NULL,NULL,NULL,NULL,NULL,NULL,10,0,NULL,0.0,'boom',NULL,NULL,NULL,NULL);
CREATE TABLE schema_version (
	version INTEGER NOT NULL
);
INSERT INTO "schema_version" VALUES(7);
CREATE TABLE threshold (
	data_hash TEXT NOT NULL, 
	norm TEXT NOT NULL, 
	epsilon DOUBLE NOT NULL, 
	PRIMARY KEY (data_hash, norm)
);
INSERT INTO "threshold" VALUES('5eed','l0',12.0);
INSERT INTO "threshold" VALUES('5eed','l2',1.5);
INSERT INTO "threshold" VALUES('5eed','linf',0.3);
CREATE TABLE tournament (
	id INTEGER NOT NULL, 
	fingerprint TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	split TEXT NOT NULL, 
	data_hash TEXT NOT NULL, 
	conditions TEXT NOT NULL, 
	environments TEXT NOT NULL, 
	last_used INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (fingerprint)
);
INSERT INTO "tournament" VALUES(1,'7ea90b7828660ceb1d483b41e2179265e8223a7a99147e8e985b36ecde0352c2','mnist','test','5eed','{"chunk": 10, "data_hash": "5eed", "dataset": "mnist", "seed": 0, "split": "test"}','[{"arena-robustness": "0.1.0", "foolbox": "3.3.4", "machine": "x86_64", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.13.0+cpu"}]',1);
CREATE UNIQUE INDEX match_key ON "match" (tournament_id, defense_id, attack_id, coalesce(budget, -1));
CREATE INDEX result_masked ON result (match_id, sample) WHERE masked > 0;
CREATE INDEX result_evidence ON result (match_id, sample, distance, status, l0, l1, l2, linf, fragile);
CREATE INDEX result_failed ON result (match_id, sample) WHERE status = 'error';
CREATE VIEW current_match AS 
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
            AND d.last_used > 0;
CREATE VIEW best_result AS 
        SELECT defense, norm, sample, attack, distance, status, match_id
        FROM (
            SELECT m.defense, m.norm, m.attack, r.sample, r.distance, r.status, r.match_id,
                ROW_NUMBER() OVER (
                    PARTITION BY m.defense, m.norm, r.sample ORDER BY CASE r.status WHEN 'unstable' THEN 1.7976931348623157e308 ELSE r.distance END, r.match_id
                ) AS place
            FROM current_match m
            JOIN result r ON r.match_id = m.id
            WHERE r.status <> 'error'
        ) AS ranked
        WHERE place = 1;
CREATE VIEW lower_bound AS 
        SELECT defense_id, data_hash, sample, norm, kind, value
        FROM (
            SELECT defense_id, data_hash, sample, norm, kind, MIN(value) AS value,
                ROW_NUMBER() OVER (
                    PARTITION BY defense_id, data_hash, sample, norm ORDER BY MIN(value) DESC, kind
                ) AS place
            FROM bound
            GROUP BY defense_id, data_hash, sample, norm, kind
        ) AS of_kind
        WHERE place = 1;
CREATE VIEW leaderboard AS 
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
            SELECT n.all_group, n.attack_group, n.epsilon, r.sample, MIN(CASE r.status WHEN 'unstable' THEN 1.7976931348623157e308 ELSE r.distance END) AS closeness,
                MIN(CASE WHEN r.fragile THEN NULL ELSE CASE r.status WHEN 'unstable' THEN 1.7976931348623157e308 ELSE r.distance END END) AS solid,
                SUM(CASE WHEN r.status = 'error' THEN 1 ELSE 0 END) AS errors, MAX(b.value) AS lower_bound
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
            SELECT g.*, NULLIF(closeness, 1.7976931348623157e308) AS distance,
                CASE WHEN closeness = 1.7976931348623157e308 THEN 1 ELSE 0 END AS unstable
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
                    WHEN distance > epsilon * 1.000001 THEN 1.0 WHEN closeness >= 0 THEN 0.0 END) AS accuracy,
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
        JOIN defense d ON d.id = n.defense_id;
COMMIT;
