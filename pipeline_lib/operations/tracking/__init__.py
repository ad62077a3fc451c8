"""An experiment tracker, fed from the study's files while it runs or afterwards. Never imports torch.

No job knows of it: results, logs and what is run again are the same with and without.
"""
