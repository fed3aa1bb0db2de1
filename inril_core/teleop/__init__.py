"""Input devices through which a person drives the arm."""
