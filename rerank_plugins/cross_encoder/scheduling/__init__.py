"""Many callers in, one stream of batches out."""
