-- A records database as it was before its versions were counted: what SQLite kept of it, and a few rows of each kind.
CREATE TABLE document (
  kind VARCHAR NOT NULL,
  id VARCHAR NOT NULL,
  site VARCHAR NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE INDEX ix_document_site ON document (site);
CREATE TABLE permit (
  id VARCHAR NOT NULL,
  number VARCHAR NOT NULL,
  site VARCHAR NOT NULL,
  space VARCHAR NOT NULL,
  state VARCHAR NOT NULL,
  holding BOOLEAN NOT NULL,
  t0 FLOAT NOT NULL,
  t1 FLOAT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (id),
  UNIQUE (number)
);
CREATE TABLE event (
  seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  id VARCHAR NOT NULL,
  type VARCHAR NOT NULL,
  site VARCHAR NOT NULL,
  space VARCHAR NOT NULL,
  subject VARCHAR NOT NULL,
  at FLOAT NOT NULL,
  cause VARCHAR NOT NULL,
  body BLOB NOT NULL,
  UNIQUE (id)
);
CREATE INDEX ix_event_space ON event (space);
CREATE INDEX ix_event_cause ON event (cause);
CREATE INDEX ix_event_subject ON event (subject);
CREATE TABLE uplink (
  jid VARCHAR NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (jid)
);
CREATE TABLE command (
  id VARCHAR NOT NULL,
  site VARCHAR NOT NULL,
  "by" VARCHAR NOT NULL,
  root VARCHAR NOT NULL,
  exp FLOAT NOT NULL,
  state VARCHAR NOT NULL,
  result VARCHAR NOT NULL,
  sent_at FLOAT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX ix_command_root ON command (root);
CREATE TABLE grant (
  id VARCHAR NOT NULL,
  permit VARCHAR NOT NULL,
  lock VARCHAR NOT NULL,
  kind INTEGER NOT NULL,
  holder VARCHAR NOT NULL,
  issued_at FLOAT NOT NULL,
  used_at FLOAT,
  PRIMARY KEY (id)
);
CREATE TABLE "plan" (
  site VARCHAR NOT NULL,
  version INTEGER NOT NULL,
  digest VARCHAR NOT NULL,
  body BLOB NOT NULL,
  sent BOOLEAN NOT NULL,
  PRIMARY KEY (site)
);
CREATE TABLE session (
  token_hash VARCHAR NOT NULL,
  person VARCHAR NOT NULL,
  made_at FLOAT NOT NULL,
  seen_at FLOAT NOT NULL,
  PRIMARY KEY (token_hash)
);
CREATE TABLE answer (
  "key" VARCHAR NOT NULL,
  person VARCHAR NOT NULL,
  request VARCHAR NOT NULL,
  status INTEGER NOT NULL,
  at FLOAT NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY ("key", person)
);
CREATE TABLE audit (
  seq INTEGER NOT NULL,
  prev BLOB NOT NULL,
  body BLOB NOT NULL,
  hash BLOB NOT NULL,
  PRIMARY KEY (seq)
);
CREATE TRIGGER permit_overlap_INSERT BEFORE INSERT ON permit WHEN new.holding AND EXISTS
 (SELECT 1 FROM permit WHERE space = new.space AND holding AND id <> new.id AND t0 < new.t1 AND t1 > new.t0)
BEGIN SELECT raise(ABORT, 'permit_overlap'); END;
CREATE TRIGGER permit_overlap_UPDATE BEFORE UPDATE ON permit WHEN new.holding AND EXISTS
 (SELECT 1 FROM permit WHERE space = new.space AND holding AND id <> new.id AND t0 < new.t1 AND t1 > new.t0)
BEGIN SELECT raise(ABORT, 'permit_overlap'); END;
CREATE TRIGGER audit_UPDATE BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END;
CREATE TRIGGER audit_DELETE BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END;
CREATE TRIGGER audit_INSERT BEFORE INSERT ON audit
 WHEN new.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
  OR new.prev IS NOT coalesce((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1), zeroblob(32))
BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END;
