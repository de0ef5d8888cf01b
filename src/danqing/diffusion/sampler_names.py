"""The names of all samplers, ours and A1111's, without importing torch."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def sampler_titles() -> dict[str, str]:
    """Name of each sampler -> its name in A1111, from the decorators of `samplers.py`."""
    tree = ast.parse(Path(__file__).with_name("samplers.py").read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    calls = [call for node in functions for call in node.decorator_list if isinstance(call, ast.Call)]
    return {
        ast.literal_eval(call.args[0]): ast.literal_eval(keyword.value)
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "title"
    }


def sampler_name(text: str) -> str:
    """Our name for a sampler name of A1111 such as "DPM++ 2M Karras"; any other text is returned as it is."""
    ours = {title.casefold(): name for name, title in sampler_titles().items()}
    return ours.get(" ".join(text.casefold().split()), text)
