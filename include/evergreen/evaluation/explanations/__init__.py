"""Why a model says what it says: of one prediction, of a feature, of the whole."""
