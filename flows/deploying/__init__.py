"""From spec files and an environment file to a work pool, schedules and an automation on a Prefect server.

``environment`` and ``desired`` read what there should be, without a server; ``apply`` compares it with a server, kind by kind
(``work_pool``, ``deployments``, ``automations``), and changes what differs.
"""
