"""What is done to a finished model, or to several. A new stage is one file here."""
