"""What runs a device, whichever it is."""
