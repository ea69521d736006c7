"""What Airflow needs to run Evergreen: operators, links, assets and defaults. The work itself is in `evergreen`."""
