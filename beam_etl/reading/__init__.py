"""Bytes of delimited text in, typed Arrow columns out: the automaton, exact cuts, strict kernels, evidence."""
