-- The label store. `answers` are what a model said; `uses` say which text of which label set an answer belongs to, so
-- that one answer serves every text, corpus and set that asks the same question.
CREATE TABLE sets (
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
    about      TEXT NOT NULL,                -- JSON: what else a datasheet reports
    created    TEXT NOT NULL                 -- UTC, as all times
);
CREATE TABLE answers (
    id                INTEGER PRIMARY KEY,
    key               TEXT NOT NULL,
    attempt           INTEGER NOT NULL,      -- 1 is the retry
    status            TEXT NOT NULL,
    finish            TEXT NOT NULL,
    raw               TEXT NOT NULL,
    error             TEXT,
    items             TEXT,                  -- JSON: item scores in the scale's order
    score             REAL,
    spread            REAL,
    tokens            TEXT,                  -- JSON: [[token, [[alternative, log-probability], ...]], ...]
    prompt_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost              REAL NOT NULL,         -- US dollars
    answered          TEXT NOT NULL,
    UNIQUE (key, attempt)
);
CREATE TABLE uses (
    set_id    TEXT NOT NULL REFERENCES sets (id),
    text_id   TEXT NOT NULL,
    sample    INTEGER NOT NULL,
    key       TEXT NOT NULL,
    text_hash TEXT NOT NULL,
    PRIMARY KEY (set_id, text_id, sample)
) WITHOUT ROWID;
CREATE INDEX uses_by_key ON uses (key);
-- The result of each question: the usable answer, else the last one; NULLs where nothing was answered yet.
CREATE VIEW outcomes AS
SELECT uses.set_id, uses.text_id, uses.sample, uses.text_hash, answers.*
FROM uses LEFT JOIN answers ON answers.id = (
    SELECT a.id FROM answers AS a WHERE a.key = uses.key ORDER BY (a.status = 'ok') DESC, a.attempt DESC LIMIT 1
);
