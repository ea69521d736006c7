"""The search for a candidate's parameters, on rolling-origin folds of the training dates."""
