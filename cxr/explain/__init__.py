"""Heat maps: which pixels a classifier's score rests on, and whether that is where the finding lies."""
