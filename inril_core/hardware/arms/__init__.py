"""Arms, one file each."""
