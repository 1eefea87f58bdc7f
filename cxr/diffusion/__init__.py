"""A diffusion model of chest X-rays, conditioned on all labels, sex, age and view (Karras et al. 2022)."""
