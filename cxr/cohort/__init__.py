"""Records -> splits, label tables under a policy, descriptions and data checks. No torch."""
