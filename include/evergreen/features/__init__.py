"""Features: Spark jobs that fold purchases into mergeable state, and pure functions of (state, `as_of`)."""
