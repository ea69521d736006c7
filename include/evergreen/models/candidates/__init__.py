"""Candidate models, one a file. A file's name is the model's name in settings; its `CANDIDATE` is the class."""
