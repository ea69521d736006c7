"""Reference pages, made from what they describe: commands, settings, DAGs, tables and features."""
