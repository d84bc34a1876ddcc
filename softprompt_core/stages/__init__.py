"""The stages of a lifecycle, each a function from files in a work folder to files in a work folder.

    inputs → training → evaluation → registration → promotion

Prefect's tasks call these; so can a script without Prefect. Between stages stand paths and small frozen values, never models or
frames, so that any stage may run in another process or be repeated.
"""
