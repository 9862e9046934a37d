"""kickwheel."""
