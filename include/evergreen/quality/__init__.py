"""Quality: what staged rows must look like before they are published."""
