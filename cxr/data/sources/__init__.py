"""One module per data set, and what they read from: folders, archives, addresses."""
