"""What a store's database holds, and how an older one becomes a newer one.

Written for SQLite; `postgres.py` says the same to Postgres.
"""

VERSION = 10

_FIRST = """
CREATE TABLE trace (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    workload TEXT NOT NULL,
    source TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    model TEXT NOT NULL,
    error TEXT,
    spans INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    question TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX trace_by_time ON trace (start_ns);
CREATE INDEX trace_by_workload ON trace (workload, start_ns);
CREATE TABLE feedback (
    seq INTEGER PRIMARY KEY,
    trace TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX feedback_by_trace ON feedback (trace);
CREATE TABLE move (
    seq INTEGER PRIMARY KEY,
    ref TEXT NOT NULL,
    target TEXT,
    why TEXT NOT NULL,
    time_ns INTEGER NOT NULL
);
CREATE INDEX move_by_ref ON move (ref, seq DESC);
CREATE TABLE journal (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    inputs TEXT NOT NULL,
    result BLOB NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    PRIMARY KEY (run, step, inputs)
) WITHOUT ROWID;
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE job_event (
    seq INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX job_event_by_job ON job_event (job, seq);
CREATE TABLE file (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL,
    body BLOB NOT NULL
)"""

_RUNS = """
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    asked BLOB NOT NULL,
    tenant TEXT NOT NULL,
    asker TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    result BLOB,
    error TEXT,
    created REAL NOT NULL,
    updated REAL NOT NULL
);
CREATE INDEX run_by_state ON run (state, updated);
CREATE TABLE run_step (
    run TEXT NOT NULL,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL,
    result BLOB,
    started REAL NOT NULL,
    ended REAL,
    PRIMARY KEY (run, path)
) WITHOUT ROWID;
CREATE TABLE run_question (
    run TEXT NOT NULL,
    path TEXT NOT NULL,
    question TEXT NOT NULL,
    choices TEXT NOT NULL,
    asked REAL NOT NULL,
    answer TEXT,
    PRIMARY KEY (run, path)
) WITHOUT ROWID;
CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    beat INTEGER NOT NULL
)"""

_CALLS = """
CREATE TABLE spent (
    budget TEXT NOT NULL,
    who TEXT NOT NULL,
    since INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (budget, who, since)
) WITHOUT ROWID;
CREATE TABLE answer (
    cache TEXT NOT NULL,
    key TEXT NOT NULL,
    scope TEXT,
    vector BLOB,
    body BLOB NOT NULL,
    kept_at REAL NOT NULL,
    PRIMARY KEY (cache, key)
) WITHOUT ROWID;
CREATE INDEX answer_by_scope ON answer (cache, scope);
CREATE INDEX answer_by_age ON answer (cache, kept_at)"""

_PARTS = """
CREATE TABLE took_part (
    agent TEXT NOT NULL,
    trace TEXT NOT NULL,
    PRIMARY KEY (agent, trace)
) WITHOUT ROWID"""

_RESPONSES = """
CREATE TABLE response (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    asker TEXT NOT NULL,
    previous TEXT,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    body BLOB NOT NULL,
    input BLOB NOT NULL,
    events BLOB
);
CREATE INDEX response_by_age ON response (created_at);
CREATE INDEX response_open ON response (id) WHERE status = 'in_progress'"""

_TASKS = """
CREATE TABLE task (
    id TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    tenant TEXT NOT NULL,
    asker TEXT NOT NULL,
    context TEXT NOT NULL,
    state TEXT NOT NULL,
    ended INTEGER NOT NULL,
    told TEXT NOT NULL,
    asked BLOB NOT NULL,
    body BLOB NOT NULL,
    updated REAL NOT NULL
);
CREATE INDEX task_by_end ON task (ended, updated);
CREATE INDEX task_by_context ON task (context);
CREATE TABLE task_push (
    task TEXT NOT NULL,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (task, id)
) WITHOUT ROWID"""

_SPANS = """
CREATE TABLE gathered (
    trace INTEGER NOT NULL UNIQUE,
    body BLOB NOT NULL
);
CREATE TABLE span (
    seq INTEGER PRIMARY KEY,
    trace INTEGER NOT NULL,
    id TEXT NOT NULL,
    parent TEXT,
    start_ns INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (trace, id)
);
CREATE INDEX span_by_parent ON span (trace, parent, start_ns)"""

_TENANTS = """
ALTER TABLE trace ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE trace ADD COLUMN asker TEXT NOT NULL DEFAULT '';
CREATE INDEX trace_by_tenant ON trace (tenant, id) WHERE tenant <> '';
CREATE TABLE task_owed (
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    push TEXT NOT NULL,
    body BLOB NOT NULL,
    tries INTEGER NOT NULL,
    due REAL NOT NULL
);
CREATE INDEX task_owed_by_task ON task_owed (task, push, seq)"""

_TOLD = "ALTER TABLE task DROP COLUMN told"

_OWNERS = """
ALTER TABLE job ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN asker TEXT NOT NULL DEFAULT '';
ALTER TABLE file ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE file ADD COLUMN asker TEXT NOT NULL DEFAULT '';
CREATE INDEX trace_of_tenant ON trace (tenant, start_ns) WHERE tenant <> '';
CREATE INDEX trace_of_asker ON trace (asker, start_ns) WHERE tenant = '' AND asker <> ''"""

STEPS = (_FIRST, _RUNS, _CALLS, _PARTS, _RESPONSES, _TASKS, _SPANS, _TENANTS, _TOLD, _OWNERS)
"""What makes version n + 1 of version n; version 0 is an empty database."""


def statements(version: int) -> list[str]:
    """The statements that make this version of a database of `version`."""
    return [s.strip() for step in STEPS[version:] for s in step.split(";")]
