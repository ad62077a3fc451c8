"""What the study's paper shows (SOUL, arXiv 2404.18239), each made from the runs of its own tasks alone."""
