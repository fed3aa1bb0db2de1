"""Arms whose driver speaks ROS; found by the entry points of this package (group `inril.arms`)."""
