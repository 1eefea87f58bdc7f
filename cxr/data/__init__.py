"""A source -> records -> packed images."""
