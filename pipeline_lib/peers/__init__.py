"""Result files of other projects, read into this project's definitions and written from its records.

tofu_log.py         TOFU's eval_log_aggregated.json
open_unlearning/    OpenUnlearning's TOFU_EVAL.json and TOFU_SUMMARY.json: read, and written from our records

Nothing here imports torch. What a file must hold is checked before a number is made of it (checks.py).
"""
