"""These tests run kernels in Triton's interpreter, which must be chosen before Triton is imported: see
test_interpreter.py beside this folder, which starts them in a process of their own."""

import os

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
