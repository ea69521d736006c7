"""The whole platform in containers of one machine: its secrets, its checks, its start, its way back."""
