"""From spec files and an environment file to work pools, schedules and automations on a Prefect server.

``environment`` and ``wanted`` know no server; ``server`` and ``automations`` make one be as wanted.
"""
