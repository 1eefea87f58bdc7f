"""Generated X-rays into the training table: how many, with which labels, and the study's control arms."""
