-- The label store. `answers` are what a model said; `uses` say which text of which label set an answer belongs to, so
-- that one answer serves every text, corpus and set that asks the same question. `checksum` is the CRC-32 of a row.
CREATE TABLE IF NOT EXISTS sets (
    id         TEXT PRIMARY KEY,             -- hash of the columns below, up to `sampling`
    corpus     TEXT NOT NULL,
    llm        TEXT NOT NULL,
    model      TEXT NOT NULL,
    revision   TEXT NOT NULL,                -- '' if none is named
    prompt     TEXT NOT NULL,
    template   TEXT NOT NULL,                -- hash of the prompt's templates and settings
    scale      TEXT NOT NULL,
    items      TEXT NOT NULL,                -- JSON: names of the scores in order, bounds, aggregation
    readout    TEXT NOT NULL,
    sampling   TEXT NOT NULL,                -- JSON
    about      TEXT NOT NULL CHECK (json_valid(about)),   -- JSON: what else a datasheet reports
    created    TEXT NOT NULL,                -- UTC, as all times
    checksum   INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
    id                INTEGER PRIMARY KEY,
    key               TEXT NOT NULL,
    attempt           INTEGER NOT NULL,      -- from 1 on, retries
    status            TEXT NOT NULL,
    finish            TEXT NOT NULL,
    raw               TEXT NOT NULL,
    error             TEXT,
    items             TEXT CHECK (items IS NULL OR json_valid(items)),   -- JSON: item scores in the scale's order
    score             REAL CHECK (abs(score) <= 1e9),   -- NaN is NULL, and infinity is more
    spread            REAL CHECK (spread BETWEEN 0 AND 1e9),
    tokens            TEXT CHECK (tokens IS NULL OR json_valid(tokens)),   -- JSON: [[token, [[alternative, log-probability], ...]], ...]
    prompt_tokens     INTEGER NOT NULL CHECK (typeof(prompt_tokens) = 'integer' AND prompt_tokens >= 0),
    completion_tokens INTEGER NOT NULL CHECK (typeof(completion_tokens) = 'integer' AND completion_tokens >= 0),
    cost              REAL NOT NULL CHECK (cost BETWEEN 0 AND 1e12),   -- US dollars
    answered          TEXT NOT NULL,
    revision          TEXT NOT NULL DEFAULT '',   -- the model that answered, as the server names it
    batch             TEXT NOT NULL DEFAULT '',   -- the batch file that the question was in
    checksum          INTEGER NOT NULL,
    UNIQUE (key, attempt),
    CHECK (status <> 'ok' OR (score IS NOT NULL AND items IS NOT NULL))
);
-- Who is asking what, so that several processes share the questions; a claim that is not renewed expires.
CREATE TABLE IF NOT EXISTS claims (
    key   TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until REAL NOT NULL                      -- seconds since 1970, UTC
) WITHOUT ROWID;
-- Where the file lay when a log was begun beside it: a file elsewhere is a copy, whose log is missing.
CREATE TABLE IF NOT EXISTS logged (
    place TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS uses (
    set_id    TEXT NOT NULL REFERENCES sets (id),
    text_id   TEXT NOT NULL,
    sample    INTEGER NOT NULL,
    key       TEXT NOT NULL,
    text_hash TEXT NOT NULL,
    checksum  INTEGER NOT NULL,
    PRIMARY KEY (set_id, text_id, sample)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uses_by_key ON uses (key);
-- The result of each question: the usable answer, else the last one; NULLs where nothing was answered yet.
CREATE VIEW IF NOT EXISTS outcomes AS
SELECT uses.set_id, uses.text_id, uses.sample, uses.text_hash, answers.*
FROM uses LEFT JOIN answers ON answers.id = (
    SELECT a.id FROM answers AS a WHERE a.key = uses.key ORDER BY (a.status = 'ok') DESC, a.attempt DESC LIMIT 1
);
