"""Backups of a workspace: a folder with a manifest, and the way back."""
