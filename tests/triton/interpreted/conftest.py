"""These tests run kernels in Triton's interpreter, which must be chosen before Triton is imported: see
test_interpreter.py beside this folder, which starts them in a process of their own."""

import os

import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True, scope="session")
def _patch_each_module_once():
    """The interpreter patches triton.language at every call of a device function, which takes most of its time.

    Once for each module and launch is enough, since what it patches belongs to the module.
    """
    from triton.runtime import interpreter

    patched: set[int] = set()
    patch, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__

    def patch_once(function):
        module = id(function.__globals__)
        if module in patched:
            return None
        patched.add(module)
        return patch(function)

    def launch_anew(self, *arguments, **constants):
        patched.clear()
        return launch(self, *arguments, **constants)

    interpreter._patch_lang, interpreter.GridExecutor.__call__ = patch_once, launch_anew
    yield
    interpreter._patch_lang, interpreter.GridExecutor.__call__ = patch, launch
