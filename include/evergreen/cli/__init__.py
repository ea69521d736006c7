"""The commands behind `./evergreen`."""
