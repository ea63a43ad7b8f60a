"""Where settings come from: defaults, job.yaml, its profiles, the environment and flags, and what is told of them."""
