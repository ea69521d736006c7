"""What watches the platform: figures of the loop, as Prometheus reads them."""
