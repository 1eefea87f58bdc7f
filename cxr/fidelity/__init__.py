"""How good generated X-rays are, and whether they are copies of training images."""
