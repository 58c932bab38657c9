-- Things that a physical backup must get right, and that a dump would not show. `:big_rows` and `:tablespace` are psql's.
CREATE TABLESPACE fast LOCATION :'tablespace';

-- Values outside of their rows, compressed and not.
CREATE TABLE toasted (id int PRIMARY KEY, plain text, packed text);
ALTER TABLE toasted ALTER plain SET STORAGE EXTERNAL, ALTER packed SET STORAGE EXTENDED;
INSERT INTO toasted SELECT g, repeat(md5(g::text), 1000), repeat(md5((-g)::text), 3000) FROM generate_series(1, 200) g;

CREATE TABLE large_objects (id oid PRIMARY KEY);
INSERT INTO large_objects SELECT lo_from_bytea(0, decode(repeat(md5(g::text), 700), 'hex')) FROM generate_series(1, 60) g;

-- Partitions of partitions, with an index of every kind.
CREATE TABLE events (id int NOT NULL, at timestamp NOT NULL, tags text[] NOT NULL, spot point NOT NULL, word text NOT NULL,
    address inet GENERATED ALWAYS AS ('10.0.0.0'::inet + id) STORED) PARTITION BY RANGE (id);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (5000);
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (5000) TO (10000) PARTITION BY HASH (id);
CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_2b PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1) TABLESPACE fast;
CREATE TABLE events_rest PARTITION OF events DEFAULT;
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE INDEX events_gin ON events USING gin (tags);
CREATE INDEX events_gist ON events USING gist (spot);
CREATE INDEX events_spgist ON events USING spgist (address);
CREATE INDEX events_brin ON events USING brin (at);
CREATE INDEX events_hash ON events USING hash (word);
CREATE INDEX events_upper ON events (upper(word)) INCLUDE (at) WHERE id % 2 = 0;
INSERT INTO events SELECT g, '2026-01-01'::timestamp + g * interval '1 minute', ARRAY['t' || g % 7, 't' || g % 11], point(g % 100, g % 89), 'w' || g % 50
    FROM generate_series(0, 19999) g;

-- Relations that a crash empties, and their sequences.
CREATE UNLOGGED TABLE forgotten (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
CREATE INDEX ON forgotten USING hash (note);
INSERT INTO forgotten (note) SELECT md5(g::text) FROM generate_series(1, 5000) g;

CREATE SEQUENCE numbers;
CREATE TABLE numbered (n bigint PRIMARY KEY);
CREATE TABLE pairs (amount bigint NOT NULL);
CREATE MATERIALIZED VIEW totals AS SELECT word, count(*) AS number FROM events GROUP BY word;
CREATE UNIQUE INDEX ON totals (word);
CREATE TABLE on_fast TABLESPACE fast AS SELECT g AS id, md5(g::text) AS note FROM generate_series(1, 20000) g;
CREATE INDEX ON on_fast (note) TABLESPACE fast;
CREATE TABLE "empty; ""quoted""" ();

-- More than a segment of a relation, where it is to be.
CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 30) AS filler FROM generate_series(1, :big_rows) g;
CREATE UNIQUE INDEX ON big (id);

-- One transaction that nobody has decided on yet.
CREATE TABLE undecided (n int);
BEGIN;
INSERT INTO undecided VALUES (1);
PREPARE TRANSACTION 'undecided';

-- And what is acknowledged, with where the log ended then.
CREATE TABLE ledger (n bigint PRIMARY KEY);
CHECKPOINT;
