"""Starting, watching and stopping an inril graph."""
