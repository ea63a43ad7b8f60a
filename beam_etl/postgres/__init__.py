"""The PostgreSQL sink: ledger, COPY, publish, error classes, sessions, and a server in a folder."""
