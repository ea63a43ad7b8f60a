"""What a load reads: which files, packed how, in which encoding, dialect and extent."""
