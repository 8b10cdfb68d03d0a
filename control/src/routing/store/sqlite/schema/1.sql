-- Times are seconds since 1970-01-01T00:00:00Z. A version is never given twice.

-- One row: how far the two counters are.
CREATE TABLE head (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL CHECK (sequence >= 0), -- the newest change
    version  INTEGER NOT NULL CHECK (version >= 0)   -- the newest version of any resource
) STRICT;

INSERT INTO head (id, sequence, version) VALUES (1, 0, 0);

CREATE TABLE workspaces (
    id      INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    id                    INTEGER PRIMARY KEY,
    workspace             INTEGER NOT NULL REFERENCES workspaces (id),
    name                  TEXT    NOT NULL,
    kind                  TEXT    NOT NULL CHECK (kind IN ('dicom', 'fhir')),
    hosts                 TEXT    NOT NULL, -- JSON array in the order given; each is in `hosts`, too
    cluster               TEXT    NOT NULL,
    public_network_access TEXT    NOT NULL CHECK (public_network_access IN ('Enabled', 'Disabled')),
    key_url               TEXT,
    key_state             TEXT    NOT NULL CHECK (key_state IN ('accessible', 'not_accessible')),
    requests_per_second   INTEGER CHECK (requests_per_second BETWEEN 1 AND 4294967295),
    connections_max       INTEGER CHECK (connections_max >= 1),
    version               INTEGER NOT NULL,
    created               INTEGER NOT NULL,
    changed               INTEGER NOT NULL,
    UNIQUE (workspace, name)
) STRICT;

-- Whose a host is: one account's.
CREATE TABLE hosts (
    name    TEXT    PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX hosts_of_account ON hosts (account);

CREATE TABLE connections (
    account             INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    link_id             INTEGER NOT NULL CHECK (link_id BETWEEN 0 AND 4294967295),
    name                TEXT    NOT NULL,
    state               TEXT    NOT NULL CHECK (state IN ('Pending', 'Approved', 'Rejected', 'Disconnected')),
    description         TEXT    NOT NULL,
    request_message     TEXT    NOT NULL,
    requests_per_second INTEGER CHECK (requests_per_second BETWEEN 1 AND 4294967295),
    version             INTEGER NOT NULL,
    created             INTEGER NOT NULL,
    changed             INTEGER NOT NULL,
    PRIMARY KEY (account, link_id),
    UNIQUE (account, name)
) STRICT, WITHOUT ROWID;

-- The change log. Only its oldest entries ever go.
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY,
    change   TEXT    NOT NULL -- postern_api::routing::Change
) STRICT;

CREATE TRIGGER changes_are_appended BEFORE INSERT ON changes
WHEN new.sequence <> (SELECT sequence FROM head WHERE id = 1)
    OR new.sequence <> coalesce((SELECT max(sequence) FROM changes), 0) + 1
BEGIN
    SELECT raise(ABORT, 'the change log is contiguous');
END;

CREATE TRIGGER changes_are_never_rewritten BEFORE UPDATE ON changes
BEGIN
    SELECT raise(ABORT, 'the change log is never rewritten');
END;

CREATE TRIGGER changes_go_from_the_oldest BEFORE DELETE ON changes
WHEN old.sequence <> (SELECT min(sequence) FROM changes)
    OR old.sequence = (SELECT sequence FROM head WHERE id = 1)
BEGIN
    SELECT raise(ABORT, 'only the oldest changes go');
END;
