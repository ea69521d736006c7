"""What answers over HTTP. So far it says how it is; it predicts nothing yet."""
