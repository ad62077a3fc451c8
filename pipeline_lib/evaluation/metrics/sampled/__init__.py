"""Probabilistic evaluation: what several sampled answers to one question give away, and bounds."""
