"""Membership inference: can one tell the records that were learned from others of the same kind?

Every score is oriented in one way: HIGHER = MORE LIKELY A MEMBER. (OpenUnlearning and MUSE use the opposite
sign and turn the labels round as well, so their AUC agrees with ours.) A score is made from one row of
records.jsonl: the log-probabilities of the true answer's tokens, end token included, given its prompt.
"""
