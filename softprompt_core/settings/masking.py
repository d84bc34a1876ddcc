"""Passwords are kept out of messages."""

from __future__ import annotations

import re


def masked(text: str) -> str:
    """``text`` with the passwords of any addresses in it blotted out."""
    text = re.sub(r"(://[^\s:/@]*):[^\s/]*@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|sslpassword)=)[^&\s]*", r"\1***", text)
