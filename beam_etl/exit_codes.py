"""What the exit code of a command says."""

PUBLISHED = 0
USAGE = 2
NOT_PUBLISHED = 3
FAILED = 4

DONE = PUBLISHED
