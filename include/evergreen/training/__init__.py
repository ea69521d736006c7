"""Training: dates, content-addressed training sets, the trainer, and registration of the best candidate."""
