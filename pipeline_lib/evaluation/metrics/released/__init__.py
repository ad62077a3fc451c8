"""The paper's own protocol (SOUL, arXiv 2404.18239) as its released code computes it, named `_as_released`.

The code's label mask starts one token before the end of the question, so the prompt's last token is scored
with every answer, and its answer marker ("### Answer: ") too; no end token is. Its answers end where prompt
and answer together have 200 tokens. All of it is reproduced; the marker where it is the `answer_prefix`.
"""
