PRAGMA foreign_keys = ON;
BEGIN;
CREATE TABLE IF NOT EXISTS [book list] (isbn TEXT PRIMARY KEY, `page count` INT CHECK (`page count` >= 0), price REAL DEFAULT 9.99);
CREATE TABLE loan (isbn TEXT REFERENCES [book list], due INTEGER DEFAULT (strftime('%s', '2026-01-01') + 14 * 86400), flags BLOB DEFAULT x'00ff', reader TEXT DEFAULT "nobody");
CREATE UNIQUE INDEX one_loan ON loan (isbn, due COLLATE NOCASE);
DROP TABLE IF EXISTS draft;
COMMIT;
