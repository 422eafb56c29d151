# ruff: noqa: S608  only names of columns are put together here
"""Statements: the SQL of the spool. Plain, and few: each costs a mail a round through the parser's cache.

What must be true for a commit to stand is asked as a division: `1 / 0` ends the whole transaction, whose COMMIT is
already on its way then.
"""

from __future__ import annotations

_MAIL = (
    "key, uuid, sender, received_at, size, eight_bit, report, ret, envid, client, head, body_size, body_crc, checksum, "
    "body, owner, generation, crashes"
)

_RECIPIENTS = (
    "(SELECT json_agg(json_build_array(number, address, notify, orcpt, r.state, attempts, r.due, provider, pinned, "
    "uncertain, warned, reply) ORDER BY number)::text FROM recipient r WHERE r.mail = m.key)"
)

FOUND = ", ".join(f"m.{name}" for name in _MAIL.split(", ")) + f", {_RECIPIENTS}"
"""What is read of a mail, beside its body: see `reading.COLUMNS`."""

SMALL = "(SELECT octets FROM piece WHERE piece.body = m.key AND number = 0)"

FENCE = (
    "WITH t AS (UPDATE tally SET commits = %s, ready = ready + %s, deferred = deferred + %s, held = held + %s "
    "WHERE process = %s RETURNING process) SELECT 1 / count(*) FROM t"
)
"""The first of every commit: who has no row any more is refused."""

INSERT_MAIL = (
    "INSERT INTO mail (key, uuid, sender, received_at, size, eight_bit, report, ret, envid, client, head, body_size, "
    "body_crc, checksum, body, state, due, owner, generation) "
    "SELECT key, uuid, sender, received_at, size, eight_bit, report, ret, envid, client, head, body_size, body_crc, "
    "checksum, body, state, due, CASE WHEN ours THEN %s::bigint END, ours::integer "
    "FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::double precision[], %s::bigint[], %s::boolean[], "
    "%s::boolean[], %s::text[], %s::text[], %s::text[], %s::bytea[], %s::bigint[], %s::bigint[], %s::bigint[], "
    "%s::bigint[], %s::smallint[], %s::double precision[], %s::boolean[]) AS "
    "w(key, uuid, sender, received_at, size, eight_bit, report, ret, envid, client, head, body_size, body_crc, "
    "checksum, body, state, due, ours)"
)

INSERT_RECIPIENT = (
    "INSERT INTO recipient (mail, number, address, notify, orcpt, state, due) "
    "SELECT * FROM unnest(%s::bigint[], %s::integer[], %s::text[], %s::text[], %s::text[], %s::smallint[], "
    "%s::double precision[])"
)

INSERT_PIECE = (
    "INSERT INTO piece (body, number, octets) "
    "SELECT body, 0, octets FROM unnest(%s::bigint[], %s::bytea[]) AS w(body, octets)"
)

END_UPLOAD = (
    "WITH u AS (DELETE FROM upload WHERE body = ANY (%s::bigint[]) RETURNING 1) "
    "SELECT 1 / (count(*) = %s)::integer FROM u"
)
"""A body whose upload is gone was deleted with its process."""

UPDATE_RECIPIENT = (
    "UPDATE recipient r SET state = w.state, attempts = w.attempts, due = w.due, provider = w.provider, "
    "pinned = w.pinned, uncertain = w.uncertain, warned = w.warned, reply = w.reply "
    "FROM unnest(%s::bigint[], %s::integer[], %s::smallint[], %s::integer[], %s::double precision[], %s::text[], "
    "%s::boolean[], %s::integer[], %s::boolean[], %s::text[]) AS "
    "w(mail, number, state, attempts, due, provider, pinned, uncertain, warned, reply) "
    "WHERE r.mail = w.mail AND r.number = w.number"
)

TURN = (
    "WITH u AS (UPDATE mail m SET state = w.state, due = w.due, "
    "owner = CASE WHEN w.released THEN NULL ELSE m.owner END, "
    "crashes = CASE WHEN w.state = 2 THEN 0 ELSE m.crashes END "
    "FROM unnest(%s::bigint[], %s::integer[], %s::smallint[], %s::double precision[], %s::boolean[]) AS "
    "w(key, generation, state, due, released) WHERE m.key = w.key AND m.generation = w.generation RETURNING 1) "
    "SELECT 1 / (count(*) = %s)::integer FROM u"
)
"""A suspicion ends with HELD: a person sees to it."""

END_MAIL = (
    "WITH d AS (DELETE FROM mail m USING unnest(%s::bigint[], %s::integer[]) AS w(key, generation) "
    "WHERE m.key = w.key AND m.generation = w.generation RETURNING 1) SELECT 1 / (count(*) = %s)::integer FROM d"
)

END_RECIPIENTS = "DELETE FROM recipient WHERE mail = ANY (%s::bigint[])"

END_PIECES = "DELETE FROM piece WHERE body = ANY (%s::bigint[])"

NOTE = (
    "INSERT INTO note (name, text) SELECT * FROM unnest(%s::text[], %s::text[]) "
    "ON CONFLICT (name) DO UPDATE SET text = excluded.text"
)

FORGET = "DELETE FROM note WHERE name = ANY (%s::text[])"

RELEASE = (
    "UPDATE mail m SET owner = NULL FROM unnest(%s::bigint[], %s::integer[]) AS w(key, generation) "
    "WHERE m.key = w.key AND m.generation = w.generation AND owner = %s"
)

ADOPT = f"SELECT {FOUND} FROM mail m WHERE key = ANY (%s::bigint[]) FOR UPDATE OF m"
"""Mail that is written about without a lease: locked until the commit, whoever has it."""

FIRST = 1
"""When READY mail of a process that has ended is due, by the spool's scale: before all that waits."""

_NOBODYS = "SELECT key FROM mail WHERE owner IS NULL AND key <> ALL (%s::bigint[])"

CLAIM = (
    f"WITH suspect AS ({_NOBODYS} AND due <= %s AND crashes > 1 ORDER BY due, key LIMIT %s FOR UPDATE SKIP LOCKED), "
    f"left_over AS ({_NOBODYS} AND due > 0 AND due <= {FIRST} AND crashes < 2 ORDER BY due, key "
    "LIMIT %s - (SELECT count(*) FROM suspect) FOR UPDATE SKIP LOCKED), "
    "first AS (SELECT key FROM suspect UNION ALL SELECT key FROM left_over), "
    f"newest AS ({_NOBODYS} AND due <= 0 AND crashes < 2 ORDER BY due DESC, key DESC "
    "LIMIT (%s - (SELECT count(*) FROM first)) / 2 FOR UPDATE SKIP LOCKED), "
    f"late AS ({_NOBODYS} AND due > {FIRST} AND due <= %s AND crashes < 2 AND (%s OR NOT report OR due <= %s) "
    "ORDER BY due, key LIMIT (%s - (SELECT count(*) FROM first) - (SELECT count(*) FROM newest)) / 2 "
    "FOR UPDATE SKIP LOCKED), "
    f"ready AS ({_NOBODYS} AND due <= 0 AND crashes < 2 AND key <> ALL (ARRAY(SELECT key FROM newest)) "
    "ORDER BY due, key LIMIT %s - (SELECT count(*) FROM first) - (SELECT count(*) FROM newest) "
    "- (SELECT count(*) FROM late) FOR UPDATE SKIP LOCKED), "
    "m AS (UPDATE mail SET owner = %s, generation = generation + 1, taken_at = now() WHERE key = ANY (ARRAY("
    "SELECT key FROM first UNION ALL SELECT key FROM newest UNION ALL SELECT key FROM late "
    "UNION ALL SELECT key FROM ready)) RETURNING *) "
    f"SELECT {FOUND}, {SMALL} FROM m ORDER BY m.due, m.key"
)
"""`due <= 0` where `= 0` says as much: for that, with figures of yesterday, a planner walks all mails by their keys."""

OBTAIN = (
    "WITH m AS (UPDATE mail SET owner = %s, generation = generation + 1, taken_at = now() "
    f"WHERE key = %s AND owner IS NULL RETURNING *) SELECT {FOUND}, {SMALL} FROM m"
)

OLDEST = (
    "SELECT key, received_at FROM mail WHERE key >= %s AND due IS NOT NULL AND NOT (report AND EXISTS "
    "(SELECT FROM recipient WHERE recipient.mail = key AND recipient.state = 1 AND attempts = 0)) ORDER BY key LIMIT 1"
)


def array(values: list[object]) -> str:
    """A list of numbers, truths or texts as PostgreSQL reads an array; None is NULL."""
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
