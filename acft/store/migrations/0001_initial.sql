-- Nothing here is typed in by hand: every row comes from a run directory or the journal beside it.
-- run_key is a number made from run_id. The large tables carry it because DuckDB skips row groups
-- by the range of numbers, but only by the first eight bytes of text, which run ids share.
-- shard_seq is the seq of the event that named the shard a row came from.

CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY,
    run_key BIGINT NOT NULL,
    kind VARCHAR,
    state VARCHAR,
    failure VARCHAR,
    message VARCHAR,
    advice VARCHAR,
    title VARCHAR,
    method VARCHAR,
    model VARCHAR,
    seed BIGINT,
    device VARCHAR,
    created DOUBLE,
    started DOUBLE,
    ended DOUBLE,
    heartbeat DOUBLE,
    round INTEGER,
    rounds INTEGER,
    step INTEGER,
    steps INTEGER,
    phase VARCHAR,
    seconds_left DOUBLE,
    pid INTEGER,
    exit_code INTEGER,
    checkpoint VARCHAR,
    best_checkpoint VARCHAR,
    resumed_from VARCHAR,
    cloned_from VARCHAR,
    sweep VARCHAR,
    subject VARCHAR,
    tags VARCHAR[],
    notes VARCHAR,
    archived BOOLEAN,
    events INTEGER,
    settings VARCHAR,
    facts VARCHAR,
    problem VARCHAR
);

CREATE TABLE positions (
    run_id VARCHAR PRIMARY KEY,
    byte_offset BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    tail VARCHAR NOT NULL,
    problem VARCHAR NOT NULL
);

CREATE TABLE events (
    run_id VARCHAR NOT NULL,
    seq INTEGER NOT NULL,
    time DOUBLE NOT NULL,
    kind VARCHAR NOT NULL,
    round INTEGER,
    body VARCHAR NOT NULL,
    is_undone BOOLEAN NOT NULL
);

CREATE TABLE metrics (
    run_id VARCHAR NOT NULL,
    run_key BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    time DOUBLE NOT NULL,
    round INTEGER,
    step INTEGER,
    name VARCHAR NOT NULL,
    value DOUBLE NOT NULL
);

CREATE TABLE evaluations (
    run_id VARCHAR NOT NULL,
    seq INTEGER NOT NULL,
    policy_version INTEGER,
    suite VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    value DOUBLE,
    n BIGINT,
    stderr DOUBLE,
    low DOUBLE,
    high DOUBLE,
    scorer_version VARCHAR
);

CREATE TABLE shards (
    run_id VARCHAR NOT NULL,
    shard_seq INTEGER NOT NULL,
    table_name VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    round INTEGER,
    rows BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    state VARCHAR NOT NULL,  -- loaded, refused (see problem), dropped (by the retention setting)
    problem VARCHAR NOT NULL
);

CREATE TABLE rollouts (
    run_id VARCHAR NOT NULL,
    run_key BIGINT NOT NULL,
    shard_seq INTEGER NOT NULL,
    rollout_id VARCHAR,
    round INTEGER,
    purpose VARCHAR,
    subject VARCHAR,
    policy_version INTEGER,
    prompt_id VARCHAR,
    prompt_split VARCHAR,
    prompt_category VARCHAR,
    sample INTEGER,
    prompt_text VARCHAR,
    response_text VARCHAR,
    response_ids INTEGER[],
    n_tokens INTEGER,
    logprob DOUBLE,
    log_weight DOUBLE,
    satisfaction DOUBLE
);

CREATE TABLE scores (
    run_id VARCHAR NOT NULL,
    run_key BIGINT NOT NULL,
    shard_seq INTEGER NOT NULL,
    rollout_id VARCHAR,
    scorer VARCHAR,
    scorer_version VARCHAR,
    value DOUBLE
);

-- The alternatives of a token are nine tenths of a guidance shard and wanted for one sequence at a
-- time, so they stay in the shard, which never changes, and are read from there.
CREATE TABLE guidance (
    run_id VARCHAR NOT NULL,
    run_key BIGINT NOT NULL,
    shard_seq INTEGER NOT NULL,
    sequence_id VARCHAR,
    source VARCHAR,
    round INTEGER,
    step INTEGER,
    policy_version INTEGER,
    oracle_version INTEGER,
    position INTEGER,
    token_id INTEGER,
    token_text VARCHAR,
    logprob_base FLOAT,
    logprob_policy FLOAT,
    logprob_guided FLOAT,
    log_r FLOAT,
    kl_guided_policy FLOAT,
    entropy FLOAT,
    in_loss BOOLEAN,
    kl_logged DOUBLE
);

CREATE TABLE sequences (
    run_id VARCHAR NOT NULL,
    run_key BIGINT NOT NULL,
    shard_seq INTEGER NOT NULL,
    sequence_id VARCHAR,
    source VARCHAR,
    round INTEGER,
    step INTEGER,
    policy_version INTEGER,
    oracle_version INTEGER,
    n_tokens INTEGER,
    n_in_loss INTEGER,
    kl_sum DOUBLE,  -- nats, over the tokens in the loss
    kl_max DOUBLE,
    kl_logged DOUBLE  -- the same sum as the training pass wrote it; NULL where it did not
);

CREATE TABLE comparisons (
    comparison_id VARCHAR NOT NULL,
    time DOUBLE NOT NULL,
    body VARCHAR NOT NULL
);

CREATE TABLE votes (
    comparison_id VARCHAR NOT NULL,
    time DOUBLE NOT NULL,
    item VARCHAR NOT NULL,
    choice VARCHAR NOT NULL,
    body VARCHAR NOT NULL
);
