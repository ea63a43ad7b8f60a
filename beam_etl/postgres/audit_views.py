"""The audit's tables about loads, runs and files, and the views over them: one entry of the audit schema's versions.

States are never stored. They follow from table_loads (published: written by the very transaction that publishes), the
ledger (committed), the leases (running) and the ends of runs (failed), so they are right after any crash.
"""

LOAD_BOOKS = """
    ALTER TABLE beam_etl.loads ADD COLUMN output text, ADD COLUMN planned_at timestamptz, ADD COLUMN chunk_bytes bigint;
    CREATE TABLE beam_etl.load_runs (
        load_id text,
        run text,
        started_at timestamptz NOT NULL,
        ended_at timestamptz,
        outcome text NOT NULL DEFAULT '',
        reason text NOT NULL DEFAULT '',
        os_user text NOT NULL,
        host text NOT NULL,
        pid bigint NOT NULL,
        version text NOT NULL,
        python text NOT NULL,
        runner text NOT NULL,
        command text NOT NULL,
        PRIMARY KEY (load_id, run)
    );
    CREATE TABLE beam_etl.load_tables (
        load_id text,
        table_name text,
        mode text NOT NULL,
        records_in bigint,
        rows bigint,
        rejects bigint,
        rejected_files bigint,
        reasons text[] NOT NULL DEFAULT '{}',
        ended_at timestamptz,
        PRIMARY KEY (load_id, table_name)
    );
    CREATE TABLE beam_etl.load_files (
        load_id text,
        table_name text,
        file_key text,
        file_id int NOT NULL,
        uri text NOT NULL,
        member text NOT NULL,
        version text NOT NULL,
        size_bytes bigint NOT NULL,
        skipped boolean NOT NULL,
        PRIMARY KEY (load_id, table_name, file_key)
    );
    CREATE VIEW beam_etl.table_overview AS
    SELECT t.load_id, t.table_name, t.mode,
        CASE
            WHEN p.load_id IS NOT NULL THEN 'published'
            WHEN NOT EXISTS (SELECT FROM beam_etl.load_files f
                WHERE f.load_id = t.load_id AND f.table_name = t.table_name AND NOT f.skipped) THEN 'skipped'
            WHEN EXISTS (SELECT FROM beam_etl.leases l JOIN beam_etl.load_runs r USING (run)
                WHERE r.load_id = t.load_id AND l.table_name = t.table_name AND l.expires_at > clock_timestamp())
                THEN 'running'
            WHEN t.reasons <> '{}' THEN 'failed'
            WHEN EXISTS (SELECT FROM beam_etl.chunk_ledger c
                WHERE c.load_id = t.load_id AND c.table_name = t.table_name) THEN 'committed'
            WHEN EXISTS (SELECT FROM beam_etl.load_runs r WHERE r.load_id = t.load_id AND r.outcome = 'failed')
                THEN 'failed'
            ELSE 'pending'
        END AS state,
        coalesce(p.sequence >= (SELECT max(s.sequence) FROM beam_etl.table_loads s WHERE s.starts_table
            AND s.target_schema = p.target_schema AND s.table_name = p.table_name), false) AS current,
        coalesce(p.rows, t.rows) AS rows, coalesce(p.rejects, t.rejects) AS rejects, t.rejected_files, t.reasons,
        p.target_schema, p.target_table, p.published_at, p.sequence
    FROM beam_etl.load_tables t LEFT JOIN beam_etl.table_loads p USING (load_id, table_name);
    CREATE VIEW beam_etl.load_overview AS
    SELECT l.load_id,
        CASE
            WHEN bool_and(t.state IN ('published', 'skipped')) THEN
                CASE WHEN bool_or(t.state = 'published') THEN 'published' ELSE 'skipped' END
            WHEN bool_or(t.state = 'running') THEN 'running'
            WHEN bool_or(t.state = 'failed') THEN 'failed'
            WHEN bool_or(t.state = 'committed') THEN 'committed'
            ELSE 'pending'
        END AS state,
        bool_or(t.current) AS current, count(*) AS tables, sum(t.rows)::bigint AS rows, sum(t.rejects)::bigint AS rejects,
        l.planned_at, max(t.published_at) AS published_at, l.output,
        (SELECT count(*) FROM beam_etl.load_runs r WHERE r.load_id = l.load_id) AS runs
    FROM beam_etl.loads l JOIN beam_etl.table_overview t USING (load_id)
    GROUP BY l.load_id;
    CREATE VIEW beam_etl.file_history AS
    SELECT f.uri, f.member, f.version, f.load_id, f.table_name, f.size_bytes,
        CASE WHEN f.skipped THEN 'skipped' ELSE t.state END AS state,
        EXISTS (SELECT FROM beam_etl.table_files h JOIN beam_etl.loads l USING (target_schema)
            WHERE l.load_id = f.load_id AND h.table_name = f.table_name AND h.file_key = f.file_key
            AND h.load_id = f.load_id) AS in_table,
        t.published_at
    FROM beam_etl.load_files f JOIN beam_etl.table_overview t USING (load_id, table_name);
    CREATE VIEW beam_etl.chunk_overview AS
    SELECT c.load_id, c.table_name, c.chunk_id, c.schema_hash,
        CASE WHEN p.schema_hash = c.schema_hash THEN 'published' ELSE 'committed' END AS state,
        c.rows, c.rejects, c.committed_at
    FROM beam_etl.chunk_ledger c LEFT JOIN beam_etl.table_loads p USING (load_id, table_name);
"""
