"""A cohort of drawn X-rays in the layouts of CheXpert and RSNA, for runs without any data."""
