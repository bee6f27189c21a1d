"""Public helpers for authors of attacks."""
