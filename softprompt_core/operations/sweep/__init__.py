"""A sweep: many settings of one task, trained together and compared on its validation rows. Nothing is registered.

``run`` is the path that reads top to bottom; ``points`` are trained, ``choice`` says which is best, ``tracking`` is what MLflow
shows of it.
"""
