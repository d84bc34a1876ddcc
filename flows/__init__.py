"""Prefect flows, one module a user-visible workflow, and the ``softprompt`` command line (``cli``)."""
