"""The marks of ours that a message carries through a worker.

Here so that a producer, which needs neither Django nor a worker, can import the task class.
"""

HEADER = "triggerapp"
"""`{"run": id, "lease": number, "sent": when, "eta": …, "expires": …}`: what the message says to look at."""

CONTENT = "triggerapp_content"
"""The body's content type and encoding, from the main process to the pool process."""

TOLD_AGAIN = "triggerapp_told_again"
"""On the request of a run whose end is told to Celery a second time."""
