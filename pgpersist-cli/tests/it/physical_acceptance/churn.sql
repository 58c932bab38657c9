\set id random(0, 19999)
\set toast random(1, 50)
\set amount random(1, 1000)
BEGIN;
UPDATE events SET tags = ARRAY['u' || :amount % 5], spot = point(:amount % 100, :id % 50), word = 'w' || :amount % 50, at = now() WHERE id = :id;
DELETE FROM events WHERE id = 20000 + :id;
INSERT INTO events VALUES (20000 + :id, now(), ARRAY['n' || :amount % 3], point(:id % 30, :amount % 30), 'n' || :amount % 9);
UPDATE toasted SET plain = repeat(md5(:amount::text), 1000) WHERE id = :toast;
INSERT INTO pairs VALUES (:amount), (-:amount);
INSERT INTO numbered SELECT nextval('numbers');
INSERT INTO forgotten (note) VALUES (:amount);
CREATE TEMPORARY TABLE passing ON COMMIT DROP AS SELECT g AS id FROM generate_series(1, 100) g;
SELECT lo_unlink(lo_from_bytea(0, decode(md5(:amount::text), 'hex')));
COMMIT;
