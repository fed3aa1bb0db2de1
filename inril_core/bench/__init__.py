"""Experiments: tasks x methods x seeds in this process's children or over a cluster, and what came of them."""
