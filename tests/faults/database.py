"""The database of the fault tests, and its memory: triggers note every change that any process makes.

The table of notes is append-only and outside of what the product knows, so that a change that was made and
unmade, or made by a worker that had lost its run, is seen all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

TEMPLATE = "faults_template"
Row = dict[str, Any]

_NOTES = """
CREATE TABLE faults_note (
  id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), kind text NOT NULL,
  operation text NOT NULL,
  row_id text NOT NULL, run text, before jsonb, after jsonb, held_lease bigint, held_status text);

CREATE FUNCTION faults_note_step() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE held record; changed triggerapp_step;
BEGIN
  changed := COALESCE(NEW, OLD);
  SELECT lease, status INTO held FROM triggerapp_run WHERE id = changed.run_id;
  INSERT INTO faults_note (kind, operation, row_id, run, before, after, held_lease, held_status) VALUES
    ('step', TG_OP, changed.id, changed.run_id, to_jsonb(OLD), to_jsonb(NEW), held.lease, held.status);
  RETURN NULL;
END $$;

CREATE FUNCTION faults_note_wait() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE changed triggerapp_wait;
BEGIN
  changed := COALESCE(NEW, OLD);
  INSERT INTO faults_note (kind, operation, row_id, run, before, after) VALUES
    ('wait', TG_OP, changed.id, changed.run_id, to_jsonb(OLD), to_jsonb(NEW));
  RETURN NULL;
END $$;

CREATE FUNCTION faults_note_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE changed triggerapp_run;
BEGIN
  changed := COALESCE(NEW, OLD);
  INSERT INTO faults_note (kind, operation, row_id, run, before, after) VALUES
    ('run', TG_OP, changed.id, changed.id,
      to_jsonb(OLD) - 'message' - 'payload', to_jsonb(NEW) - 'message' - 'payload');
  RETURN NULL;
END $$;

CREATE TRIGGER faults AFTER INSERT OR UPDATE OR DELETE ON triggerapp_step
  FOR EACH ROW EXECUTE FUNCTION faults_note_step();
CREATE TRIGGER faults AFTER INSERT OR UPDATE OR DELETE ON triggerapp_wait
  FOR EACH ROW EXECUTE FUNCTION faults_note_wait();
CREATE TRIGGER faults AFTER INSERT OR UPDATE OR DELETE ON triggerapp_run
  FOR EACH ROW EXECUTE FUNCTION faults_note_run();
"""
_TABLES = (
    "faults_note, triggerapp_step, triggerapp_wait, triggerapp_attempt, triggerapp_run, triggerapp_event, "
    "triggerapp_worker"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One change of one row."""

    id: int
    at: datetime
    kind: str
    operation: str
    row_id: str
    run: str | None
    before: Row | None
    after: Row | None
    held_lease: int | None
    held_status: str | None

    def changed(self, *columns: str) -> list[str]:
        """Which of the columns this changed."""
        if self.before is None or self.after is None:
            return []
        return [name for name in columns if self.before[name] != self.after[name]]


def named(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql", path=f"/{name}"))


def create(url: str, name: str, *, template: str = "template0") -> None:
    """Make a database, as a copy of `template`."""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with connect(named(url, "postgres")) as connection:
        connection.execute(statement)


def remember(url: str) -> None:
    """Have a migrated database note every change of runs, steps and waits."""
    with connect(url) as connection:
        connection.execute(_NOTES)


def forget(url: str) -> None:
    """Start over: no runs, no notes."""
    with connect(url) as connection:
        connection.execute(f"TRUNCATE {_TABLES}")


def notes(url: str) -> list[Note]:
    """Every change since then, in order."""
    with connect(url) as connection:
        rows = connection.cursor(row_factory=dict_row).execute("SELECT * FROM faults_note ORDER BY id").fetchall()
    return [Note(**row) for row in rows]


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection that commits each statement."""
    return psycopg.connect(url, autocommit=True, connect_timeout=60)
