-- Events are as many as metrics, and pages ask for those of one run: see run_key in 0001.

ALTER TABLE events RENAME TO events_without_key;

CREATE TABLE events (
    run_id VARCHAR NOT NULL,
    run_key BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    time DOUBLE NOT NULL,
    kind VARCHAR NOT NULL,
    round INTEGER,
    body VARCHAR NOT NULL,
    is_undone BOOLEAN NOT NULL
);

INSERT INTO events BY NAME
SELECT events_without_key.*, runs.run_key FROM events_without_key JOIN runs USING (run_id);

DROP TABLE events_without_key;
