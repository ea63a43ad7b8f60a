"""What of a load somebody should be told, and telling them."""
