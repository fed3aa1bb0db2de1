"""Sources of camera images, one file each."""
