"""The local platform: Airflow as processes of this machine, and a client of its REST API. Never imports Airflow."""
