"""Versions between stores: ``fetch`` brings one with all its evidence out of another store as a ``Snapshot``, ``copy`` registers
it here and lets its gates compare it with the champion here."""
