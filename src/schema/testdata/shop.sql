-- A small shop: what SQLite runs as it stands.
CREATE TABLE customer (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL DEFAULT 'it''s nobody',
    email TEXT UNIQUE COLLATE NOCASE,
    balance NUMERIC(10, 2) DEFAULT -1.5,
    born DATE CHECK (born > '1900-01-01')
);

CREATE TABLE "order" (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customer (id) ON DELETE CASCADE,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paid', 'sent')),
    note TEXT DEFAULT (lower('A' || 'B')),
    UNIQUE (customer, state)
) STRICT;

CREATE INDEX order_by_state ON "order" (state, customer DESC) WHERE state <> 'sent';
INSERT INTO customer (name, balance) VALUES ('Ada', 1.5), ('Grace -- not a comment', 2e3);
