"""Freezing and thawing a process. Knows nothing of runs, Django or Celery; usable on its own."""
