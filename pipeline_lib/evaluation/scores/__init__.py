"""What score.py is made of: rows and their checks, and one file for each family of metrics."""
