"""The soft prompt: a float32 matrix ``[length, hidden]`` with its contract, its files, and where its vectors start."""

from softprompt_core.soft_prompt.initialisers import initial_weights
from softprompt_core.soft_prompt.interchange import read_npy, read_peft, read_start, vectors_file, write_peft
from softprompt_core.soft_prompt.tensor import FILE_NAME, SoftPrompt

__all__ = [
    "FILE_NAME",
    "SoftPrompt",
    "initial_weights",
    "read_npy",
    "read_peft",
    "read_start",
    "vectors_file",
    "write_peft",
]
