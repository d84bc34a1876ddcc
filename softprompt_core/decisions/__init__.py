"""Decisions after the lifecycle: a person's word about a version (``review``), its gates applied again against another champion
(``reevaluate``), and the replay of a stored decision (``replay``)."""
