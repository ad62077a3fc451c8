"""Tables, figures and the report, from the small files of a study. Nothing here imports torch."""
