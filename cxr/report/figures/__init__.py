"""The figures: one file a section, and their shared look."""
