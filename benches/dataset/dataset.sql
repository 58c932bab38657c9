-- What pgbench's tables lack: text that compresses like real text, text that hardly compresses, and many small tables.
-- Every value follows from its row's number and the seed, so that two runs hold the same bytes.
--
-- Expects the variable `scale`, pgbench's scale. At 150: `doc` 150,000 rows, `rnd` 200,000 rows, 300 small tables.

\set seed 20261123
\set ECHO none
SET client_min_messages = warning;

CREATE FUNCTION pg_temp.noise(seed bigint, row_number bigint, salt int) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN md5(seed::text || '/' || row_number::text || '/' || salt::text);

-- Orders as JSON with repeating keys and few distinct words: some 2.2 kB each, compressed by TOAST to a third of it.
CREATE TABLE doc (id bigint PRIMARY KEY, body text NOT NULL);
INSERT INTO doc
SELECT n,
       '{"order": ' || n || ', "customer": {"id": ' || 1 + n * 7919 % 10007 || ', "name": "customer-' || left(noise, 6)
       || '", "city": "' || (ARRAY['Pune', 'Mumbai', 'Chennai', 'Delhi', 'Kochi', 'Jaipur', 'Surat'])[1 + n % 7]
       || '"}, "placed_at": "' || timestamp '2026-01-01' + n * interval '37 seconds' || '", "lines": ['
       || (SELECT string_agg('{"sku": "' || substr(noise, 1 + line, 8) || '", "quantity": ' || 1 + (n + line) % 9
                             || ', "price": "' || (n * 31 + line * 977) % 9000 + 100 || '.' || 10 + (n + line) % 90
                             || '", "currency": "INR", "tax": "0.18", "note": "'
                             || (ARRAY['gift wrap', 'deliver after six', '', 'leave at the door', 'call before'])[1 + (n + line) % 5]
                             || '"}', ', ' ORDER BY line)
             FROM generate_series(0, 18) line)
       || '], "status": "' || (ARRAY['paid', 'shipped', 'delivered', 'returned'])[1 + n % 4] || '"}'
FROM (SELECT n, pg_temp.noise(:seed, n, 1) AS noise FROM generate_series(1, 1000 * :scale) n) numbered;

-- Hexadecimal digits of hashes: half a byte of information in each byte, and nothing else to find.
CREATE TABLE rnd (id bigint PRIMARY KEY, body text NOT NULL);
INSERT INTO rnd
SELECT n, (SELECT string_agg(pg_temp.noise(:seed, n, salt), '' ORDER BY salt) FROM generate_series(1, 32) salt)
FROM generate_series(1, 4000 * :scale / 3) n;

-- What a catalog of a grown application looks like: many tables, little in them.
SELECT format('CREATE TABLE small_%1$s (id int PRIMARY KEY, name text, amount numeric(12,2));
               INSERT INTO small_%1$s SELECT n, left(pg_temp.noise(%2$s, n, %1$s), 12), (n * %1$s) %% 10000 / 100.0
               FROM generate_series(1, 20 + %1$s %% 80) n;
               CREATE INDEX ON small_%1$s (name)', number, :seed)
FROM generate_series(1, greatest(20, 2 * :scale)) number
\gexec

-- No hint bits are left to be set by whoever reads first, so the first run measures the same as the others.
VACUUM (FREEZE, ANALYZE);
CHECKPOINT;
