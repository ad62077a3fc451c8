"""Unlearning studies from raw data to tables and figures: the library behind the Snakemake workflow."""
