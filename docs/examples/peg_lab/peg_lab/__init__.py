"""Parts of a lab for inril."""
