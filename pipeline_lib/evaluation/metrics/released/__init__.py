"""The paper's own protocol (SOUL, arXiv 2404.18239) as its released code computes it, named `_as_released`.

What cannot be had from the rows: the code's label mask starts at the end of the question, so that its answer
marker ("### Answer: ") is scored with every answer, which raises each probability. Rows hold the tokens of
the answers alone; the marker belongs to the prompt here. That the code has no end token is reproduced.
"""
