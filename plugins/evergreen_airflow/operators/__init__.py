"""Operators: templating, order, links and `on_kill`. In modules, so that a DAG imports what it uses and no more."""
